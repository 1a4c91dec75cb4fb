"""Asking the instance in this container, from beside it (`docker exec`). The standard library alone."""

import http.client
import socket
import sys
import time
from pathlib import Path

from gpuctl_serving.container.place import Place, Traffic
from gpuctl_serving.container.traffic_gate import write_gate

#: A probe of the engine or a warm-up of every shape may take minutes on a CPU.
_ANSWER_SECONDS = 600.0
_TURN_SECONDS = 10.0
_PROBE_SECONDS = 5.0


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("instance", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """To the path in place of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def exchange(
    place: Place, method: str, path: str, body: bytes = b"", seconds: float = _ANSWER_SECONDS
) -> tuple[int, bytes]:
    """Status and body of one request on the private socket. Raises OSError when nobody answers."""
    connection = _UnixConnection(place.private, seconds)
    try:
        headers = {"content-type": "application/json"} if body else {}
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{place.private}: No such file: the instance is not there, or just starts"
        ) from None
    except http.client.HTTPException as broken:
        raise ConnectionError(f"{place.private}: {broken}") from broken
    finally:
        connection.close()


def ask(place: Place, method: str, path: str, body: bytes) -> int:
    """Prints the answer of any route, private ones included; 0 when its status is below 400."""
    status, answer = exchange(place, method, path, body)
    sys.stdout.buffer.write(answer)
    if answer and not answer.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    return 0 if status < 400 else 1


def ready(place: Place) -> int:
    """The container's health check: 0 when it would answer a request now."""
    status, answer = exchange(place, "GET", "/health/ready", seconds=_PROBE_SECONDS)
    sys.stdout.write(answer.decode("utf-8", "replace"))
    return 0 if status == 200 else 1


def show_traffic(place: Place) -> int:
    """Prints what a proxy is told, and why."""
    _, answer = exchange(place, "GET", "/health/traffic", seconds=_PROBE_SECONDS)
    print(answer.decode("utf-8", "replace"))
    return 0


def turn(place: Place, traffic: Traffic) -> int:
    """Sets the gate, then waits until the instance has followed; 1 when it has not within 10 s.

    An instance that does not answer (it loads, or is stopped) finds the gate as it is set.
    """
    write_gate(place.gate, traffic)
    wanted = f'"status":"{traffic}"'.encode()
    deadline = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            status, answer = exchange(place, "GET", "/health/traffic", seconds=_PROBE_SECONDS)
        except OSError as nobody:
            print(f"the gate is {traffic}; no instance answers now ({nobody})")
            return 0
        if wanted in answer or (status == 503 and b'"not-ready"' in answer):
            print(answer.decode("utf-8", "replace"))
            return 0
        if time.monotonic() > deadline:
            print(f"the gate says {traffic}, and the instance still: {answer.decode('utf-8', 'replace')}")
            return 1
        time.sleep(0.02)
