"""Real index processes under a test that plays the keeper: it holds the public socket, opens and closes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 20.0


def public_socket() -> socket.socket:
    """A listening socket on a free port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.set_inheritable(True)
    return listener


def wait_until(truth: Any, what: str, seconds: float = DEADLINE) -> None:
    """Polls a condition; fails with its name when it does not come true."""
    until = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.005)


class Instance:
    """One index process."""

    def __init__(self, directory: Path, name: str, listener: socket.socket, **settings: Any) -> None:
        # Where the package is that it runs.
        code = settings.pop("code", ROOT / "src")
        self.name = name
        self.private_path, self.control_path = directory / f"{name}.http", directory / f"{name}.ctl"
        self.private_path.unlink(missing_ok=True)
        document = {
            "schemaVersion": 1, "id": name, "service": "index", "release": "r1-00000000", "slot": name[-1],
            "private": str(self.private_path), "control": str(self.control_path),
        }  # fmt: skip
        file = directory / f"{name}.json"
        file.write_text(json.dumps(document))
        env = {name: value for name, value in os.environ.items() if not name.startswith("GPUCTL_")}
        env |= {f"GPUCTL_{key.upper()}": str(value) for key, value in settings.items()}
        env |= {
            "PYTHONPATH": str(code),
            "GPUCTL_INSTANCE_FILE": str(file),
            "GPUCTL_LISTEN_FD": str(listener.fileno()),
            "GPUCTL_INDEX_DIR": str(directory / "index"),
        }
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gpuctl_serving.index"],
                env=env,
                stdout=output,
                stderr=output,
                pass_fds=[listener.fileno()],
            )

    @property
    def address(self) -> str:
        """Where its private socket is."""
        return f"unix:{self.private_path}"

    def wait_ready(self) -> None:
        """Returns once it answers on its private socket."""
        wait_until(self._ready, f"{self.name} is ready; its log: {self.log.read_text()[-2000:]}")

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return bool(self.control("hello")["state"] == "ready")
        except OSError:
            return False

    def control(self, op: str, **more: Any) -> Any:
        """One exchange on the control socket."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(DEADLINE)
            line.connect(str(self.control_path))
            line.sendall(json.dumps({"op": op, **more}).encode() + b"\n")
            with line.makefile("rb") as answers:
                return json.loads(answers.readline())

    def private(self, method: str, route: str, body: Any = None) -> tuple[int, Any]:
        """One exchange on the private socket."""
        transport = httpx.HTTPTransport(uds=str(self.private_path))
        with httpx.Client(transport=transport, base_url="http://private", timeout=DEADLINE) as client:
            answer = client.request(method, f"/private/{route}", json=body)
            return answer.status_code, answer.json()

    def standing(self) -> Any:
        """Its `/private/index`."""
        return self.private("GET", "index")[1]

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE)


def hand_over(old: Instance, new: Instance, ensure: Any = None, hold_ms: int = 1000) -> tuple[Any, Any]:
    """What a deploy does at the switch: hold, take, open, close. The answers of hold and take."""
    status, held = old.private(
        "POST", "writer/hold", {"holdMs": hold_ms, "successor": new.address, "ensure": ensure}
    )
    assert status == 200, held
    status, taken = new.private("POST", "writer/take", {"deadlineMs": hold_ms})
    assert status == 200, taken
    assert new.control("accept")["ok"]
    assert old.control("pause", drainMs=5000)["drained"]
    return held, taken
