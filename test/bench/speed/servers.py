"""Services and peers as processes of their own, with what they use of the machine."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .texts import ROOT

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Server:
    """A process that answers on a port."""

    process: "subprocess.Popen[bytes]"
    port: int
    #: Seconds from its start to its first answer.
    started_in: float

    def cpu_seconds(self) -> float:
        """What it and its children have used so far."""
        return sum(float(sum(map(int, _stat(pid)[11:13]))) / _TICKS for pid in self._tree())

    def rss_mib(self) -> float:
        """Resident memory of it and its children. Pages that they share count twice."""
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._tree())
        return sum(pages) * _PAGE / 2**20

    def metric(self, line: str) -> float:
        """One series of its /metrics."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/metrics")
        for found in connection.getresponse().read().decode().splitlines():
            if found.startswith(line + " "):
                return float(found.rsplit(" ", 1)[1])
        raise LookupError(line)

    def _tree(self) -> list[int]:
        found, parents = [self.process.pid], {self.process.pid}
        pids = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        for pid in pids:
            try:
                if int(_stat(pid)[1]) in parents:
                    parents.add(pid)
                    found.append(pid)
            except (OSError, IndexError):
                continue
        return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


@contextmanager
def service(kind: str, settings: Mapping[str, str]) -> Iterator[Server]:
    """One of ours: `embedder`, `reranker` or `index`, out of this checkout."""
    given = {f"GPUCTL_{name.upper()}": value for name, value in settings.items()}
    code = str(ROOT / "compose/services/src")
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": code, **given}
    with running(
        [sys.executable, "-m", f"gpuctl_serving.{kind}"], env, "/health/ready", "GPUCTL_PORT"
    ) as server:
        yield server


@contextmanager
def running(
    argv: Sequence[str], env: Mapping[str, str], ready: str, port_variable: str, seconds: float = 240
) -> Iterator[Server]:
    """Any server that takes its port from a variable; `{port}` in `argv` is replaced too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [part.replace("{port}", str(port)) for part in argv]
    log = Path(os.environ.get("SPEED_LOG", os.devnull))
    with log.open("ab") as sink:
        started = time.perf_counter()
        process = subprocess.Popen(command, env={**env, port_variable: str(port)}, stdout=sink, stderr=sink)
    try:
        _until_ready(process, port, ready, started + seconds)
        yield Server(process, port, time.perf_counter() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_ready(process: "subprocess.Popen[bytes]", port: int, path: str, until: float) -> None:
    while time.perf_counter() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise RuntimeError(f"{process.args} did not become ready; name a file in SPEED_LOG to see what it says")
