"""What a machine is seen to have."""

from pathlib import Path

from gpuctl_serving.engines.presence import gpus, look


def silent_driver() -> tuple[str, ...]:
    return ()


def test_gpus_are_named_by_the_driver(tmp_path: Path) -> None:
    assert gpus(tmp_path, lambda: ("Tesla T4", "Tesla T4")) == ("Tesla T4", "Tesla T4")


def test_without_the_drivers_library_the_device_files_tell(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert gpus(tmp_path, silent_driver) == ("/dev/nvidia0", "/dev/nvidia1")


def test_no_driver_and_no_device_files_is_no_gpu(tmp_path: Path) -> None:
    assert gpus(tmp_path, silent_driver) == ()


def test_gpus_hidden_by_the_environment_are_not_there() -> None:
    machine = look({"CUDA_VISIBLE_DEVICES": "-1"})
    assert machine.gpus == ()
    assert machine.hidden == "CUDA_VISIBLE_DEVICES='-1' hides the NVIDIA GPUs"
