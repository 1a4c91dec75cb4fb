"""Settings from the environment: `GPUCTL_` + the field's name, typed, all problems reported at once."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from gpuctl_serving.kit.cors import parse_origins
from gpuctl_serving.kit.rate_limit import Limit, parse_limits

PREFIX = "GPUCTL_"
MIB = 1024 * 1024

#: Read by the command line or by the fetcher, never by a service: no warning for these.
NOT_OURS = frozenset(
    {
        "GPUCTL_CONFIG",
        "GPUCTL_STATE_HOME",
        "GPUCTL_CACHE_DIR",
        "GPUCTL_MODEL_STORE",
        "GPUCTL_TEST_MODEL_STORE",
    }
)


class SettingsError(Exception):
    """One or more settings cannot be used. `problems` holds a full sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Alias:
    """A variable of another product that sets one of ours, for example `FAISS_ENABLE_GPU` -> `device`."""

    variable: str
    setting: str
    #: Turns the other product's value into ours; raises ValueError with a reason when it cannot.
    convert: Callable[[str], str] = str


@dataclass(frozen=True)
class Notes:
    """What a person should hear about how the settings came to be; logged once at start."""

    warnings: tuple[str, ...] = ()
    #: One sentence for each alias that was present: which setting it set, or why it did not.
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every service reads. A field's name in capitals after `GPUCTL_` is its variable."""

    host: str = "127.0.0.1"
    port: int = field(default=0, metadata={"min": 0, "max": 65535})
    instance_file: Path | None = None
    listen_fd: int | None = field(default=None, metadata={"min": 0})
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    #: Device without which the service answers 503; empty means none.
    require: Literal["", "cuda", "mps", "cpu"] = ""
    #: 0 means what the cgroup allows.
    threads: int = field(default=0, metadata={"min": 0, "max": 1024})
    max_items: int = field(default=2048, metadata={"min": 1})
    max_body_bytes: int = field(default=8 * MIB, metadata={"min": 1024})
    deadline_ms: int = field(default=30_000, metadata={"min": 1})
    api_keys_file: Path | None = None
    #: `key`: metrics need a key too, as anything but `/health` does.
    metrics: Literal["open", "key"] = "open"
    #: What one key may ask for: `100/s, 200000 tokens/min`. Without keys everybody shares it.
    rate_limit: tuple[Limit, ...] = field(default=(), metadata={"parse": parse_limits})
    #: Origins whose pages may read answers: `https://app.example`, or `*`.
    cors_origins: tuple[str, ...] = field(default=(), metadata={"parse": parse_origins})
    secrets_dir: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: A request that takes longer is logged with its stages; 0 logs none.
    slow_ms: int = field(default=1000, metadata={"min": 0})
    #: The latency that is promised: a boundary of the latency histograms, so that a share above it is exact.
    slo_ms: float = field(default=0, metadata={"min": 0})

    @classmethod
    def load(cls, env: Mapping[str, str], aliases: Sequence[Alias] = ()) -> tuple[Self, Notes]:
        """Reads the settings out of `env`. Raises SettingsError naming every variable that is wrong."""
        merged, alias_notes, problems = _apply_aliases(cls, env, aliases)
        values: dict[str, Any] = {}
        hints = typing.get_type_hints(cls)
        for setting in dataclasses.fields(cls):
            variable = PREFIX + setting.name.upper()
            text = merged.get(variable)
            if text is None:
                continue
            try:
                values[setting.name] = _parse(text, hints[setting.name], setting.metadata)
            except ValueError as wrong:
                problems.append(f"{variable}={text!r}: {wrong}")
        problems += _missing(cls, values)
        if problems:
            raise SettingsError(problems)
        return cls(**values), Notes(tuple(_unknown(cls, env)), tuple(alias_notes))


def _apply_aliases(
    cls: type[Settings], env: Mapping[str, str], aliases: Sequence[Alias]
) -> tuple[dict[str, str], list[str], list[str]]:
    merged, notes, problems = dict(env), list[str](), list[str]()
    set_by: dict[str, str] = {}
    for alias in aliases:
        if alias.variable not in env:
            continue
        variable = PREFIX + alias.setting.upper()
        if variable in env:
            notes.append(f"{alias.variable} was ignored: {variable} is set and wins")
            continue
        if variable in set_by:
            notes.append(f"{alias.variable} was ignored: {set_by[variable]} already set {variable}")
            continue
        try:
            merged[variable] = alias.convert(env[alias.variable])
        except ValueError as wrong:
            problems.append(f"{alias.variable}={env[alias.variable]!r}: {wrong}")
            continue
        set_by[variable] = alias.variable
        notes.append(f"{alias.variable} set {variable}={merged[variable]}")
    return merged, notes, problems


def _missing(cls: type[Settings], values: Mapping[str, Any]) -> list[str]:
    nothing = dataclasses.MISSING
    return [
        f"{PREFIX}{f.name.upper()} is not set and has no default"
        for f in dataclasses.fields(cls)
        if f.default is nothing and f.default_factory is nothing and f.name not in values
    ]


def _unknown(cls: type[Settings], env: Mapping[str, str]) -> list[str]:
    known = {PREFIX + f.name.upper() for f in dataclasses.fields(cls)}
    sentences = []
    for variable in sorted(env):
        if not variable.startswith(PREFIX) or variable in known or variable in NOT_OURS:
            continue
        near = difflib.get_close_matches(variable, sorted(known), n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        sentences.append(f"{variable} is not a setting of this service and was ignored{hint}")
    return sentences


def _parse(text: str, hint: Any, limits: Mapping[str, Any]) -> Any:
    """One value of the environment as the type its field declares. Raises ValueError with a reason."""
    if "parse" in limits:
        return limits["parse"](text)
    if isinstance(hint, types.UnionType):
        (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        return None if text == "" else _parse(text, inner, limits)
    if typing.get_origin(hint) is Literal:
        return _one_of(text, typing.get_args(hint))
    if hint is bool:
        return _yes_or_no(text)
    if hint is int or hint is float:
        return _number(text, hint, limits)
    return Path(text) if hint is Path else text


def _one_of(text: str, choices: tuple[str, ...]) -> str:
    if text.lower() in choices:
        return text.lower()
    raise ValueError("must be one of " + ", ".join(choice for choice in choices if choice))


def _yes_or_no(text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("must be true or false")


def _number(text: str, kind: type[int] | type[float], limits: Mapping[str, Any]) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        raise ValueError("must be a whole number" if kind is int else "must be a number") from None
    if "min" in limits and value < limits["min"]:
        raise ValueError(f"must be at least {limits['min']}")
    if "max" in limits and value > limits["max"]:
        raise ValueError(f"must be at most {limits['max']}")
    return value
