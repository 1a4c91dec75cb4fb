"""The faulty engines do what end-to-end tests rely on, inside a rebuilt package as they rebuild it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from tests.faults.faulty import Fault
from tests.faults.package import FAULTS, SOURCES, faulty_package


@pytest.fixture(scope="session")
def faulty_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with its CPU engine replaced, and a stub of a GPU."""
    return faulty_package(tmp_path_factory.mktemp("faulty"), gpu=True)


@contextmanager
def started(
    code: Path, model: Path, fault: str, **env: str
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(code),
        "GPUCTL_MODEL_DIR": str(model),
        "GPUCTL_PORT": str(port),
        "GPUCTL_DEVICE": "cpu",
        "FAULTY_ENGINE": fault,
    } | env
    child = subprocess.Popen(
        [sys.executable, "-m", "gpuctl_serving.embedder"],
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield child, port
    finally:
        child.kill()
        child.communicate(timeout=10)


def ask(port: int, method: str, path: str, body: object = None, timeout: float = 10) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.request(method, path, None if body is None else orjson.dumps(body))
    response = connection.getresponse()
    return response.status, orjson.loads(response.read())


def until_ready(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if ask(port, "GET", "/health/ready")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("never ready")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("exit-at-load", b"status 3"),
        ("fail-at-load", b"cannot be loaded on purpose"),
        ("nan", b"finite"),
        ("wrong-dimension", b"dimension"),
        ("wrong-answers", b"cosine"),
    ],
)
def test_a_fault_from_the_start_ends_the_process_with_a_reason(
    faulty_code: Path, tiny: dict[str, Path], fault: str, said: bytes
) -> None:
    with started(faulty_code, tiny["tiny-xlmr-embedder"], fault) as (child, _):
        output, _ = child.communicate(timeout=20)
        assert child.returncode == 1
        assert said in output
        assert b'"event":"load-failed"' in output


def test_a_hang_at_load_leaves_it_loading_and_alive(faulty_code: Path, tiny: dict[str, Path]) -> None:
    with started(faulty_code, tiny["tiny-xlmr-embedder"], "hang-at-load") as (child, port):
        end = time.monotonic() + 20
        while True:
            try:
                status, body = ask(port, "GET", "/health")
                break
            except OSError:
                assert time.monotonic() < end, "never answered"
                time.sleep(0.05)
        assert (status, child.poll()) == (503, None)
        assert isinstance(body, dict)
        assert body["status"] == "loading"
        assert ask(port, "POST", "/embed", {"inputs": "a"})[0] == 503
        child.terminate()
        child.wait(20)


class ControlSocket:
    """An instance's control socket that says what a test wants about its traffic."""

    def __init__(self, directory: Path) -> None:
        self.traffic = "closed"
        self.file = directory / "instance.json"
        path = directory / "i.ctl"
        self.file.write_text(json.dumps({"control": str(path)}))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(json.dumps({"ok": True, "traffic": self.traffic}).encode() + b"\n")


_DELAYED = """
import os, sys, pathlib, numpy as np
from gpuctl_serving.engines.protocol import EngineSpec, TokenBatch, Tokens
from gpuctl_serving.engines.worker.proxy import WorkerEngine
engine = WorkerEngine(EngineSpec("onnxruntime-cpu", "cpu", "float32", 1), hang_seconds=30)
engine.load(pathlib.Path(sys.argv[1]))
batch = TokenBatch.of([Tokens(np.array([0, 5, 2], np.int32), None, False)], 0)
right = engine.infer(batch)
assert all(np.array_equal(engine.infer(batch), right) for _ in range(5)), 'before it opened'
print('open', flush=True)
sys.stdin.readline()
assert all(np.array_equal(engine.infer(batch), right) for _ in range(2)), 'the first two'
assert np.array_equal(engine.infer(batch), right[:, ::-1]), 'the third'
engine.close()
"""


def test_a_delayed_fault_begins_after_the_instance_answers_publicly(
    faulty_code: Path, tiny: dict[str, Path], tmp_path: Path
) -> None:
    control = ControlSocket(tmp_path)
    env = {
        "PYTHONPATH": str(faulty_code),
        "FAULTY_ENGINE": "wrong-answers-after:2",
        "GPUCTL_INSTANCE_FILE": str(control.file),
    }
    model = tiny["tiny-xlmr-embedder"] / "model.onnx"
    with subprocess.Popen(
        [sys.executable, "-c", _DELAYED, str(model)],
        env=env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        while (line := process.stdout.readline()) != "open\n":
            assert line.startswith("{"), process.communicate("\n", timeout=10)
        control.traffic = "open"
        _, errors = process.communicate("\n", timeout=60)
        assert process.returncode == 0, errors


def test_a_batch_that_hangs_is_run_again_within_its_requests_deadline(
    faulty_code: Path, tiny: dict[str, Path], tmp_path: Path
) -> None:
    fault = tmp_path / "fault"
    fault.write_text("")
    with started(faulty_code, tiny["tiny-xlmr-embedder"], f"@{fault}") as (_, port):
        until_ready(port)
        right = ask(port, "POST", "/embed", {"inputs": "b"})
        fault.write_text("hang")
        # Only the batch that is running then hangs: its worker never reads the file again.
        threading.Timer(3.0, fault.write_text, [""]).start()
        began = time.monotonic()
        status, answer = ask(port, "POST", "/embed", {"inputs": "a"}, timeout=60)
        assert status == 200, answer
        assert 3.0 < time.monotonic() - began < 30.0
        assert ask(port, "POST", "/embed", {"inputs": "b"}) == right


def test_without_a_fault_it_is_the_real_engine(faulty_code: Path, tiny: dict[str, Path]) -> None:
    with started(faulty_code, tiny["tiny-xlmr-embedder"], "") as (_, port):
        until_ready(port)
        assert ask(port, "POST", "/embed", {"inputs": "a"})[0] == 200


def test_a_stub_gpu_says_cuda_and_answers_rightly(faulty_code: Path, tiny: dict[str, Path]) -> None:
    with started(faulty_code, tiny["tiny-xlmr-embedder"], "", GPUCTL_DEVICE="auto") as (_, port):
        until_ready(port)
        status, health = ask(port, "GET", "/health")
        assert isinstance(health, dict)
        assert (status, health["status"], health["device"]) == (200, "healthy", "cuda")
        assert ask(port, "POST", "/embed", {"inputs": "a"})[0] == 200


def test_faults_are_named_as_they_are_documented() -> None:
    assert Fault.named("") is None
    assert Fault.named("oom-above:512") == Fault("oom-above", "512")
    assert Fault.named("wrong-answers-after:4s") == Fault("wrong-answers", "", "4s")
    assert Fault.named("slow:50ms-after:100") == Fault("slow", "50ms", "100")
    with pytest.raises(ValueError, match="no known fault"):
        Fault.named("wrong-answer")


def test_no_test_engine_is_part_of_the_package() -> None:
    shipped = {path.name for path in (SOURCES / "gpuctl_serving").rglob("*.py")}
    assert not shipped & {path.name for path in FAULTS.glob("*.py")}
    assert not [name for name in shipped if "faulty" in name or "stub" in name or name.startswith("test_")]
