"""What an index is trained with: a fair sample in one piece of memory, and others to measure it with."""

import numpy as np
import pytest

from gpuctl_serving.index.ann.plan import HELD_OUT, Plan
from gpuctl_serving.index.ann.training import cluster, take_sample
from tests.index.ann.support import DictTruth, clustered, unhurried

D = 16
PLAN = Plan("IVFFlat", 16)
#: 64 for each list.
MOST = 64 * 16


@pytest.mark.parametrize("count", [700, MOST + HELD_OUT, 6000])
def test_a_sample_is_drawn_from_everywhere_and_what_measures_it_is_not_trained_with(count: int) -> None:
    truth = DictTruth(D)
    truth.put(range(1, count + 1), clustered(count, D))
    sample = take_sample(truth, 1, PLAN, count, unhurried())
    every = {row.tobytes(): item for item, row in truth.rows.items()}
    trained = [every[row.tobytes()] for row in sample.training]
    held = [every[row.tobytes()] for row in sample.held]
    assert held == sample.held_items.tolist()
    assert len({*trained, *held}) == len(trained) + len(held) == min(count, MOST + len(held))
    assert len(trained) >= PLAN.needs and len(held) == min(HELD_OUT, count - PLAN.needs)
    for part in (trained, held):
        thirds = np.histogram(part, bins=3, range=(1, count + 1))[0] / len(part)
        assert thirds.min() > 0.2


def test_an_index_too_small_to_spare_any_is_measured_with_what_it_was_trained_with() -> None:
    truth = DictTruth(D)
    truth.put(range(1, PLAN.needs + 11), clustered(PLAN.needs + 10, D))
    sample = take_sample(truth, 1, PLAN, PLAN.needs + 10, unhurried())
    assert len(sample.training) == PLAN.needs
    assert {row.tobytes() for row in sample.held} <= {row.tobytes() for row in sample.training}


def test_means_are_summed_piece_by_piece_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    points = clustered(3000, D)
    whole = cluster(points, 32, 5, unhurried(), "", spherical=True)
    monkeypatch.setattr("gpuctl_serving.index.ann.training._TOGETHER", 100)
    assert np.allclose(cluster(points, 32, 5, unhurried(), "", spherical=True), whole, atol=1e-5)
