"""An environment of its own for a test: state directory, free port, keeper, tiny instances."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from gpuctl_serving.keeper.paths import Paths
from gpuctl_serving.kit.control import Refused, ask_now
from gpuctl_serving.kit.process import ProcessIdentity, is_running, start_time

SERVICES = Path(__file__).parents[2]
DEADLINE_SECONDS = 20.0
_WITH_OPTIONS = """
import sys
from gpuctl_serving.keeper.__main__ import Path, Paths, keep
from gpuctl_serving.keeper.keeper import Options, Patience
sys.exit(keep(Paths.of(Path(sys.argv[2])), {}))
"""
Json = dict[str, Any]
T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Polls until the condition gives something true; fails with `what` past the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class World:
    """Ends and removes everything it started on exit."""

    def __init__(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="keep-"))
        self.paths = Paths.of(self.state)
        self.paths.make()
        self.port = free_port()
        self.token = 1
        self.keeper: subprocess.Popen[bytes] | None = None
        self._seen: set[ProcessIdentity] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.keeper is not None and self.keeper.poll() is None:
            self._note_processes()
        self.kill_keeper()
        for identity in self._seen:
            if is_running(identity):
                os.kill(identity.pid, signal.SIGKILL)
        shutil.rmtree(self.state, ignore_errors=True)
        if self.paths.run.parent != self.state:
            shutil.rmtree(self.paths.run, ignore_errors=True)

    # ------------------------------------------------------------ the keeper

    def start_keeper(self, *arguments: str, options: str | None = None) -> int:
        """Starts one and waits until it answers; its pid. `options` is Python: no command line sets them."""
        command = ["-c", _WITH_OPTIONS.format(options)] if options else ["-m", "gpuctl_serving.keeper"]
        self.keeper = subprocess.Popen(
            [sys.executable, *command, "--state", str(self.state), *arguments],
            env={**os.environ, "PYTHONPATH": str(SERVICES / "src"), "STRANGER": "must not be inherited"},
            stdin=subprocess.DEVNULL,
        )
        eventually(lambda: self.hello(), "the keeper answers")
        return self.keeper.pid

    def hello(self) -> Json | None:
        """What the keeper says, or None."""
        try:
            return ask_now(self.paths.socket, {"op": "hello"}, 2)[0]
        except OSError:
            return None

    def kill_keeper(self) -> None:
        """kill -9, and waits for its end."""
        if self.keeper is not None and self.keeper.poll() is None:
            self.keeper.kill()
        if self.keeper is not None:
            self.keeper.wait(10)

    def ask(self, op: str, seconds: float = 40, **values: Any) -> Json:
        """One request under the world's token. Raises Refused."""
        return ask_now(self.paths.socket, {"op": op, "token": self.token, **values}, seconds)[0]

    def listen(self) -> None:
        """Has the world's port held for the tiny service."""
        self.ask("listen", service="tiny", host="127.0.0.1", port=self.port)

    # ------------------------------------------------------------ instances

    def document(self, name: str, **env: str) -> str:
        """Writes a launch document; the instance's id."""
        argv = [sys.executable, "-m", "tests.keeper.tiny_service"]
        document = {
            "schemaVersion": 1,
            "id": name,
            "service": "tiny",
            "release": f"r-{name}",
            "slot": "a",
            "fingerprint": "unknown keys are ignored",
            "argv": argv,
            "env": {"PYTHONPATH": f"{SERVICES / 'src'}:{SERVICES}", "GPUCTL_LOG_LEVEL": "warning", **env},
            "listen": {"host": "127.0.0.1", "port": self.port},
            "private": str(self.paths.run / f"{name}.http"),
            "control": str(self.paths.run / f"{name}.ctl"),
            "log": str(self.paths.logs / f"{name}.log"),
        }
        self.paths.launch(name).write_text(json.dumps(document))
        return name

    def start(self, name: str, **env: str) -> str:
        """Starts an instance and waits until it is ready."""
        self.document(name, **env)
        self.ask("start", id=name)
        self.when_ready(name)
        return name

    def serve(self, name: str) -> str:
        """Listens, starts, opens."""
        self.listen()
        self.start(name)
        self.ask("open", id=name)
        return name

    def swap(self, old: str, new: str) -> None:
        """Opens the new one, then pauses the old one, as a deploy does."""
        self.start(new)
        self.ask("open", id=new)
        assert self.ask("close", id=old, drainMs=10_000)["drained"] is True

    def when_ready(self, name: str) -> None:
        """Waits until an instance says so."""
        eventually(
            lambda: self.tell(name, "hello").get("state") == "ready", f"{name} is ready: {self.log(name)}"
        )

    def tell(self, name: str, op: str, **values: Any) -> Json:
        """One request on an instance's control socket; empty when nobody answers."""
        try:
            answer = ask_now(self.paths.run / f"{name}.ctl", {"op": op, **values}, 20)[0]
        except OSError:
            return {}
        if "pid" in answer:
            self._seen.add(ProcessIdentity(answer["pid"], answer["startTime"]))
        return answer

    def see(self, name: str) -> Json:
        """An instance as `list` shows it."""
        found = next((each for each in self.ask("list")["instances"] if each["id"] == name), None)
        assert found is not None, f"{name} is not listed"
        self._note(found)
        return dict(found)

    def pid(self, name: str) -> int:
        """Of a running instance."""
        return int(self.see(name)["process"]["pid"])

    def is_back(self, name: str, old_pid: int) -> bool:
        """Whether another process than that one answers public requests."""
        seen = self.see(name)
        return seen["traffic"] == "open" and seen["process"].get("pid") not in (None, old_pid)

    def log(self, name: str) -> str:
        """An instance's log."""
        file = self.paths.logs / f"{name}.log"
        return file.read_text() if file.exists() else ""

    def _note(self, instance: Json) -> None:
        process = instance["process"]
        if process["state"] == "running":
            self._seen.add(ProcessIdentity(process["pid"], process["startTime"]))

    def _note_processes(self) -> None:
        try:
            for each in self.ask("list", seconds=5)["instances"]:
                self._note(each)
        except (OSError, Refused):
            return


def gone(pid: int) -> bool:
    """Whether a process has ended; its zombie counts as gone."""
    return start_time(pid) is None
