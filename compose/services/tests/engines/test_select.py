"""Which engine is planned for a wish on a machine; nothing here imports a device library."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import gpuctl_serving
from gpuctl_serving.engines.presence import Machine
from gpuctl_serving.engines.protocol import EngineBroken, EngineSpec
from gpuctl_serving.engines.select import make_engine, plan_engines
from gpuctl_serving.kit.settings import SettingsError

BARE = Machine()
T4 = Machine(gpus=("Tesla T4",), torch="2.15.0")
T4_WITHOUT_LIBRARIES = Machine(gpus=("Tesla T4",))
MAC = Machine(torch="2.15.0", apple=True)


@dataclass(frozen=True)
class Wish:
    device: str = "auto"
    engine: str = "auto"
    dtype: str = "auto"
    threads: int = 3
    vram_mib: int = 0
    sort_batches: bool = True


def cpu(dtype: str = "float32") -> EngineSpec:
    return EngineSpec("onnxruntime-cpu", "cpu", dtype, 3)


def test_auto_on_a_machine_without_a_gpu_is_the_cpu_and_nothing_is_missing() -> None:
    plan = plan_engines(Wish(), BARE)
    assert (plan.primary, plan.fallback, plan.reason, plan.wished) == (cpu(), None, None, "cpu")


def test_auto_on_a_gpu_is_half_precision_with_the_cpu_in_full_precision_behind() -> None:
    plan = plan_engines(Wish(), T4)
    assert plan.primary == EngineSpec("torch-cuda", "cuda", "float16", 3)
    assert plan.fallback == cpu()
    assert plan.reason is None


def test_auto_on_a_gpu_without_pytorch_runs_on_the_cpu_and_says_what_is_missing() -> None:
    plan = plan_engines(Wish(), T4_WITHOUT_LIBRARIES)
    assert (plan.primary, plan.fallback, plan.wished) == (cpu(), None, "cuda")
    assert plan.reason is not None
    assert "Tesla T4 is here, but PyTorch is not installed" in plan.reason
    assert "`torch`" in plan.reason


def test_a_pytorch_built_for_the_cpu_is_not_taken_for_one_with_cuda() -> None:
    plan = plan_engines(Wish(), Machine(gpus=("Tesla T4",), torch="2.15.0+cpu"))
    assert plan.primary == cpu()
    assert plan.reason is not None and "PyTorch 2.15.0+cpu has no CUDA" in plan.reason


def test_onnxruntime_gpu_serves_a_gpu_where_pytorch_is_not_installed() -> None:
    plan = plan_engines(Wish(), Machine(gpus=("Tesla T4",), onnxruntime_gpu="1.31.1"))
    assert plan.primary == EngineSpec("onnxruntime-cuda", "cuda", "float32", 3)
    assert plan.fallback == cpu()


@pytest.mark.parametrize(
    ("machine", "because"),
    [
        (BARE, "no NVIDIA GPU is visible"),
        (Machine(torch="2.15.0", hidden="CUDA_VISIBLE_DEVICES='-1' hides the NVIDIA GPUs"), "'-1' hides"),
    ],
)
def test_cuda_that_is_not_here_is_the_cpu_with_the_reason(machine: Machine, because: str) -> None:
    plan = plan_engines(Wish(device="cuda"), machine)
    assert plan.primary == cpu()
    assert plan.reason is not None and because in plan.reason


def test_batches_run_whole_where_they_are_not_sorted() -> None:
    plan = plan_engines(Wish(sort_batches=False), T4)
    assert plan.fallback is not None
    assert (plan.primary.whole_batches, plan.fallback.whole_batches) == (True, True)


def test_a_wish_for_half_precision_that_lost_its_gpu_is_answered_in_full_precision() -> None:
    assert plan_engines(Wish(device="cuda", dtype="float16"), BARE).primary == cpu()


def test_a_mac_with_pytorch_uses_its_gpu_and_one_without_is_an_ordinary_cpu() -> None:
    assert plan_engines(Wish(), MAC).primary == EngineSpec("torch-mps", "mps", "float32", 3)
    without = plan_engines(Wish(), Machine(apple=True))
    assert (without.primary, without.reason) == (cpu(), None)


def test_mps_elsewhere_is_answered_with_the_reason() -> None:
    reason = plan_engines(Wish(device="mps"), T4).reason
    assert reason is not None and "not an Apple machine" in reason


@pytest.mark.parametrize(
    ("wish", "machine", "sentence"),
    [
        (Wish(dtype="float16"), BARE, "half precision on a CPU is many times slower"),
        (Wish(device="cpu", dtype="float16"), T4, "Set GPUCTL_DTYPE to auto, float32 or int8"),
        (Wish(dtype="int8"), T4, "INT8 on a GPU is many times slower"),
        (Wish(engine="torch-cpu", dtype="int8"), T4, "GPUCTL_DTYPE=int8 is refused with torch-cpu"),
        (Wish(device="cpu", engine="torch-cuda"), T4, "GPUCTL_ENGINE=torch-cuda runs on cuda"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_with_what_to_set(
    wish: Wish, machine: Machine, sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        plan_engines(wish, machine)


def test_a_memory_limit_is_the_gpu_engine_s_alone() -> None:
    plan = plan_engines(Wish(vram_mib=2048), T4)
    assert plan.primary.memory_mib == 2048
    assert plan.fallback == cpu()


def test_int8_on_the_cpu_is_asked_for_by_name() -> None:
    assert plan_engines(Wish(dtype="int8"), BARE).primary == cpu("int8")


def test_an_engine_nobody_knows_is_refused() -> None:
    with pytest.raises(EngineBroken, match="no engine named abacus"):
        make_engine(EngineSpec("abacus", "cpu", "float32", 1))


def test_an_engine_whose_library_is_missing_says_so() -> None:
    with pytest.raises(EngineBroken, match=r"torch-cpu cannot be imported here: .*torch"):
        make_engine(EngineSpec("torch-cpu", "cpu", "float32", 1))


def test_planning_imports_no_device_library() -> None:
    script = (
        "import sys\n"
        "from types import SimpleNamespace as Wish\n"
        "from gpuctl_serving.engines.select import plan_engines\n"
        "plan_engines(Wish(device='auto', engine='auto', dtype='auto', threads=1, vram_mib=0,"
        " sort_batches=True))\n"
        "print(sorted({'torch', 'onnxruntime', 'onnx'} & set(sys.modules)))"
    )
    env = {"PYTHONPATH": str(Path(gpuctl_serving.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    assert ran.stdout.strip() == "[]"
