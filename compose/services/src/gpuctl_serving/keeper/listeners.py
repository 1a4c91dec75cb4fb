"""Public listening sockets: binding them, taking them back from instances, naming who is in the way."""

import contextlib
import errno
import os
import socket
from pathlib import Path

from gpuctl_serving.keeper.desired import Listener
from gpuctl_serving.kit.control import Refused, ask_now

#: As in the instances: one queue of waiting connections is shared, and every `listen` call sets its length.
BACKLOG = 1024


def bind(listener: Listener) -> socket.socket:
    """Listens on the address. Raises Refused: `port-taken` with who has it, when that can be seen."""
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((listener.host, listener.port))
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError as failure:
        bound.close()
        address = f"{listener.host}:{listener.port}"
        if failure.errno == errno.EADDRINUSE:
            by = owner(listener.port)
            named = (
                f"{by} listens on it"
                if by
                else "another process listens on it (of another user, or in a container)"
            )
            raise Refused(
                "port-taken",
                f"{address} is taken: {named}. End it, or choose another port",
                **({"by": by} if by else {}),
            ) from failure
        raise Refused(
            "cannot-listen", f"{address} cannot be listened on: {failure.strerror or failure}"
        ) from failure
    return bound


def fetch(control: Path, seconds: float = 2.0) -> socket.socket | None:
    """The public socket of the instance behind a control socket (SCM_RIGHTS); None when it gives none."""
    try:
        _, descriptor = ask_now(control, {"op": "listener"}, seconds)
    except (OSError, Refused):
        return None
    if descriptor is None:
        return None
    try:
        os.set_inheritable(descriptor, False)
        fetched = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return None
    fetched.setblocking(False)
    return fetched


def is_bound_to(held: socket.socket, listener: Listener) -> bool:
    """Whether a socket is the one that is meant. Addresses are numeric: `checked_address` makes them so."""
    try:
        host, port = held.getsockname()[:2]
    except OSError:
        return False
    return bool(port == listener.port and host == listener.host)


def owner(port: int) -> str | None:
    """`pid 12 (nginx)` of a process that listens on a port; None when /proc does not tell."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()) in inodes:
                    name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                    return f"pid {process.name} ({name})"
    return None


def _listening_inodes(port: int) -> set[str]:
    wanted = f"{port:04X}"
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[1].rpartition(":")[2] == wanted:
                    inodes.add(f"socket:[{fields[9]}]")
    return inodes


def checked_address(service: object, host: object, port: object) -> Listener:
    """The listener of a `listen` request, its host as the kernel writes it. Raises Refused."""
    if not isinstance(service, str) or not service or not isinstance(host, str):
        raise Refused("bad-request", '"service" and "host" are words')
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise Refused("bad-request", f'"port" is a number from 1 to 65535, not {port!r}')
    return Listener(service, numeric(host), port)


def numeric(host: str) -> str:
    """An address as the kernel writes it; `localhost` is 127.0.0.1, empty every interface. Raises Refused."""
    known = {"": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host)  # noqa: S104 - what was asked for
    family = socket.AF_INET6 if ":" in known else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, known))
    except OSError:
        raise Refused("bad-request", f'"host" is an address like 127.0.0.1 or ::1, not {host!r}') from None
