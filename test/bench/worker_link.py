"""What a worker process adds to the engine inside it: milliseconds a batch, in interleaved calls.

    PYTHONPATH=compose/services/src python test/bench/worker_link.py --model <directory in the model store>

`bare` is the engine in this process, `worker` the same engine behind the link. The empty round trip is a
question that computes nothing. Figures of one machine mean nothing elsewhere; the differences and ratios do.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.protocol import Engine, EngineSpec, TokenBatch, Tokens
from gpuctl_serving.engines.threads import thread_count
from gpuctl_serving.engines.worker.proxy import WorkerEngine

#: (texts, tokens of each)
SHAPES = ((1, 13), (8, 13), (32, 13), (8, 128), (32, 128))


def batch(texts: int, tokens: int) -> TokenBatch:
    random = np.random.default_rng(texts * tokens)
    rows = [Tokens(random.integers(1000, 20_000, tokens).astype(np.int32), None, False) for _ in range(texts)]
    return TokenBatch.of(rows, 0)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
    return {name: round(ordered[int(share * (len(ordered) - 1))], 3) for name, share in at.items()}


def compare(bare: Engine, worker: Engine, asked: TokenBatch, calls: int) -> dict[str, object]:
    """Both engines in turns, with the same batch."""
    if not np.array_equal(bare.infer(asked), worker.infer(asked)):
        raise RuntimeError("the worker answers otherwise: there is nothing to compare")
    alone, linked = [], []
    for _ in range(calls):
        # A batch remembers its rectangles: both engines make their own.
        alone.append(timed(lambda: bare.infer(replace(asked))))
        linked.append(timed(lambda: worker.infer(replace(asked))))
    return {
        "bareMs": quantiles(alone),
        "workerMs": quantiles(linked),
        "addedMsAtP50": round(statistics.median(linked) - statistics.median(alone), 3),
        "ratio": round(statistics.median(w / b for b, w in zip(alone, linked, strict=True)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=200, help="of each shape on each engine")
    options = parser.parse_args()
    threads = thread_count()
    bare = OnnxCpuEngine(threads)
    worker = WorkerEngine(EngineSpec("onnxruntime-cpu", "cpu", "float32", threads), hang_seconds=60)
    file = options.model / "model.onnx"
    bare.load(file)
    started = time.perf_counter()
    worker.load(file)
    print(json.dumps({"startToLoadedSeconds": round(time.perf_counter() - started, 3), "threads": threads}))
    try:
        print(
            json.dumps({"emptyRoundTripMs": quantiles([timed(worker.probe) for _ in range(options.calls)])})
        )
        for texts, tokens in SHAPES:
            calls = max(10, options.calls // max(1, texts * tokens // 64))
            found = compare(bare, worker, batch(texts, tokens), calls)
            print(json.dumps({"texts": texts, "tokens": tokens, "calls": calls, **found}))
    finally:
        worker.close()


if __name__ == "__main__":
    main()
