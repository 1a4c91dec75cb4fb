"""The CPU engine: large batches run in parts, and give the answers of the whole."""

from pathlib import Path

import numpy as np
import pytest

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine, parts
from gpuctl_serving.engines.protocol import Rows, TokenBatch, Tokens


def batch_of(lengths: list[int], *, types: bool = False) -> TokenBatch:
    random = np.random.default_rng(sum(lengths))
    rows = [
        Tokens(random.integers(5, 200, n).astype(np.int32), np.ones(n, np.int32) if types else None, False)
        for n in lengths
    ]
    return TokenBatch.of(rows, pad_id=1)


@pytest.mark.parametrize("types", [False, True])
def test_parts_are_the_batch_in_order_and_fit(types: bool) -> None:
    batch = batch_of([60, 60, 50, 3, 2, 200, 1, 1, 1], types=types)
    found = list(parts(batch, 120))
    assert [part.lengths.tolist() for part in found] == [[60, 60], [50, 3], [2], [200], [1, 1, 1]]
    assert np.array_equal(np.concatenate([part.flat for part in found]), batch.flat)
    assert all((part.flat_types is not None) == types for part in found)
    assert all(part.padded_tokens <= 120 or len(part) == 1 for part in found)
    assert [part is batch for part in parts(batch, 10_000)] == [True]


def test_a_batch_in_parts_has_the_answers_of_its_texts_alone(tiny: dict[str, Path]) -> None:
    engine = OnnxCpuEngine(1)
    engine.load(tiny["tiny-xlmr-embedder"] / "model.onnx")
    batch = batch_of([60] * 20 + [3] * 30 + [17] * 9)
    assert batch.padded_tokens > 2 * 1024
    alone = np.concatenate([engine.infer(part) for part in parts(batch, 1)])
    together = engine.infer(batch)
    assert (together.shape, str(together.dtype)) == (alone.shape, "float32")
    np.testing.assert_allclose(together, alone, atol=1e-5)


class CountingEngine(OnnxCpuEngine):
    ran = 0

    def _run(self, batch: TokenBatch) -> Rows:
        self.ran += 1
        return super()._run(batch)


def test_a_whole_batch_runs_once_and_has_the_same_answers(tiny: dict[str, Path]) -> None:
    batch = batch_of([60] * 20 + [3] * 30)
    in_parts, at_once = CountingEngine(1), CountingEngine(1, "float32", whole=True)
    for engine in (in_parts, at_once):
        engine.load(tiny["tiny-xlmr-embedder"] / "model.onnx")
    np.testing.assert_allclose(at_once.infer(batch), in_parts.infer(batch), atol=1e-5)
    assert in_parts.ran > 1
    assert at_once.ran == 1
