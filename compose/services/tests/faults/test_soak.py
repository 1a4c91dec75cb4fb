"""Every fault at random under load: no request lost, none answered wrongly, nothing kept, back to the GPU.

Seconds here; two minutes in tests_long.
"""

from pathlib import Path

from tests.faults.soak import soak


def test_a_gpu_with_every_fault_costs_no_client_an_answer_while_the_cpu_is_well(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    soaked = soak(tiny["tiny-xlmr-embedder"], tmp_path, seconds=4.0, seed=4, cpu_too=False)
    soaked.check()
    assert set(soaked.tally.statuses) == {200}
    assert min(soaked.tally.devices["cuda"], soaked.tally.devices["cpu"]) > 0
    assert soaked.value("gpuctl_worker_restarts_total") >= 1
    assert soaked.value("gpuctl_fallback_total") >= 1


def test_faults_of_both_engines_lose_no_request_and_answer_none_wrongly(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    soaked = soak(tiny["tiny-xlmr-embedder"], tmp_path, seconds=4.0, seed=5, cpu_too=True)
    soaked.check()
    assert soaked.tally.statuses[200] > 100
