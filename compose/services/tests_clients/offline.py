"""What keeps the clients on this machine: telemetry switched off, and sockets that go nowhere else."""

import os
import socket
from typing import Any

#: Telemetry, tracing and downloads of each client, off before any of them is imported.
QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_TELEMETRY": "False",
    "TOKENIZERS_PARALLELISM": "false",
}
#: A proxy, a key or an address of the person who runs the tests must not decide what is tested.
_FOREIGN = (
    "_PROXY",
    "_API_KEY",
    "_BASE_URL",
    "_API_BASE",
    "HF_TOKEN",
    "HUGGINGFACEHUB_API_TOKEN",
    "HF_API_TOKEN",
)
_HERE = ("127.0.0.1", "localhost", "::1")

#: Addresses that somebody tried to reach.
strays: list[str] = []


class StrayConnection(OSError):
    """A client tried to leave this machine."""


def stay_on_this_machine() -> None:
    """Quiet settings, and no connection to anything but the loopback interface from now on."""
    for name in [name for name in os.environ if name.upper().endswith(_FOREIGN)]:
        del os.environ[name]
    os.environ.update(QUIET)
    resolve, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex

    def only_here(address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else address
        if isinstance(host, bytes):
            host = host.decode()
        # Anything that is no tuple is a path: a unix socket.
        if isinstance(address, tuple) and host not in _HERE:
            strays.append(str(host))
            raise StrayConnection(f"{host} is not this machine")

    def guarded_resolve(host: Any, *rest: Any, **more: Any) -> Any:
        only_here((host or "127.0.0.1", 0))
        return resolve(host, *rest, **more)

    def guarded_connect(self: socket.socket, address: Any) -> None:
        only_here(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        only_here(address)
        return connect_ex(self, address)

    socket.getaddrinfo = guarded_resolve
    socket.socket.connect = guarded_connect
    socket.socket.connect_ex = guarded_connect_ex
