"""Reads fields of a request to the keeper, or refuses it in words."""

from gpuctl_serving.kit.control import Json, Refused
from gpuctl_serving.kit.process import ProcessIdentity

_MAX_MS = 7 * 24 * 3600 * 1000


def milliseconds(request: Json, name: str, default: int) -> int:
    """A duration. Raises Refused."""
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_MS:
        raise Refused("bad-request", f'"{name}" is a number of milliseconds, at most {_MAX_MS}')
    return int(value)


def operator_of(request: Json) -> ProcessIdentity | None:
    """The process that asks; None when it is not one of this machine. Raises Refused."""
    named = request.get("operator")
    if named is None:
        return None
    if isinstance(named, dict) and all(type(named.get(key)) is int for key in ("pid", "startTime")):
        return ProcessIdentity(named["pid"], named["startTime"])
    raise Refused("bad-request", '"operator" is {"pid", "startTime"} of a process of this machine')
