"""The faulty engine does what end-to-end tests rely on, inside a rebuilt package as they rebuild it."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

FAULTS = Path(__file__).parent
SOURCES = FAULTS.parents[1] / "src"


@pytest.fixture(scope="session")
def faulty_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with its CPU engine replaced."""
    root = tmp_path_factory.mktemp("faulty")
    shutil.copytree(
        SOURCES / "gpuctl_serving", root / "gpuctl_serving", ignore=shutil.ignore_patterns("__pycache__")
    )
    engines = root / "gpuctl_serving/engines"
    (engines / "onnx_cpu.py").rename(engines / "onnx_cpu_real.py")
    shutil.copy(FAULTS / "onnx_cpu_faulty.py", engines / "onnx_cpu.py")
    return root


@contextmanager
def started(code: Path, model: Path, fault: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(code),
        "GPUCTL_MODEL_DIR": str(model),
        "GPUCTL_PORT": str(port),
        "FAULTY_ENGINE": fault,
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "gpuctl_serving.embedder"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield child, port
    finally:
        child.kill()
        child.communicate(timeout=10)


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
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
    ("fault", "status", "said"),
    [
        ("exit-at-load", 3, b""),
        ("nan", 1, b"finite"),
        ("wrong-dimension", 1, b"dimension"),
        ("wrong-answers", 1, b"canary"),
    ],
)
def test_a_fault_from_the_start_ends_the_process_with_a_reason(
    faulty_code: Path, tiny: dict[str, Path], fault: str, status: int, said: bytes
) -> None:
    with started(faulty_code, tiny["tiny-xlmr-embedder"], fault) as (child, _):
        output, _ = child.communicate(timeout=20)
        assert child.returncode == status
        assert said in output
        assert status == 3 or b'"event":"load-failed"' in output


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


def test_a_delayed_fault_begins_after_the_instance_answers_publicly(
    faulty_code: Path, tiny: dict[str, Path]
) -> None:
    script = (
        "import sys, pathlib, numpy as np\n"
        "from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine\n"
        "from gpuctl_serving.engines.protocol import TokenBatch, Tokens\n"
        "from gpuctl_serving.kit.service import InstanceFacts\n"
        "engine = OnnxCpuEngine(1)\n"
        "engine.load(pathlib.Path(sys.argv[1]))\n"
        "batch = TokenBatch.of([Tokens(np.array([0, 5, 2], np.int32), None, False)], 0)\n"
        "right = engine.infer(batch)\n"
        "facts = InstanceFacts('i', 'r', 'a', 'closed')\n"
        "assert all(np.array_equal(engine.infer(batch), right) for _ in range(5)), 'before it opened'\n"
        "facts.traffic = 'open'\n"
        "assert all(np.array_equal(engine.infer(batch), right) for _ in range(2)), 'the first two'\n"
        "assert np.array_equal(engine.infer(batch), right[:, ::-1]), 'the third'\n"
    )
    env = {"PYTHONPATH": str(faulty_code), "FAULTY_ENGINE": "wrong-answers-after:2"}
    model = tiny["tiny-xlmr-embedder"] / "model.onnx"
    done = subprocess.run(
        [sys.executable, "-c", script, str(model)], env=env, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_without_a_fault_it_is_the_real_engine(faulty_code: Path, tiny: dict[str, Path]) -> None:
    with started(faulty_code, tiny["tiny-xlmr-embedder"], "") as (_, port):
        until_ready(port)
        assert ask(port, "POST", "/embed", {"inputs": "a"})[0] == 200


def test_no_test_engine_is_part_of_the_package() -> None:
    shipped = [path.name for path in (SOURCES / "gpuctl_serving").rglob("*.py")]
    assert not [name for name in shipped if "fault" in name or name.startswith("test_")]
