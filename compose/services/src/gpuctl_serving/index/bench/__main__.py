"""`python -m gpuctl_serving.index.bench`: JSON lines on stdout, the table in the last one."""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpuctl_serving.engines.threads import thread_count
from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.index.bench.crossover import crossovers
from gpuctl_serving.index.bench.data import clustered, held_out
from gpuctl_serving.index.bench.device import gpu_count, why_no_gpu
from gpuctl_serving.index.bench.measure import Row, Size, as_dict, memory_needed, peak_bytes
from gpuctl_serving.models.progress import Progress

_QUERIES = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures; returns the exit status."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.gpu is not None and options.gpu >= gpu_count():
        because = why_no_gpu() or f"FAISS sees {gpu_count()} GPUs, numbered from 0"
        progress.emit(
            {
                "event": "error",
                "message": f"GPU {options.gpu} cannot be measured",
                "because": because,
                "next": "leave --gpu-id out to measure the CPU, or gpuctl doctor",
            }
        )
        return 1
    progress.emit({"event": "result", **_measure(options, progress)})
    return 0


def _measure(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    threads = thread_count(0)
    gpu = options.gpu if options.gpu is not None else (0 if gpu_count() else None)
    rows: list[Row] = []
    left_out: list[dict[str, Any]] = []
    for count in options.sizes:
        if (needed := memory_needed(count, options.dimension)) > (free := _free_memory()):
            because = f"it needs {needed >> 20} MiB of memory and {free >> 20} MiB are free"
            left_out.append({"vectors": count, "because": because})
            continue
        progress.emit({"event": "step", "step": f"{count} vectors", "state": "exact neighbours"})
        vectors = clustered(count, options.dimension, options.seed)
        queries = held_out(vectors, _QUERIES, options.seed)
        size = Size(vectors, queries, min(options.k, count), options.seconds, threads)
        for kind in size.types():
            progress.emit(
                {"event": "step", "step": f"{count} vectors", "state": f"{kind}: building, searching"}
            )
            rows += size.rows(kind, options.batches, gpu)
    return {
        "rows": [as_dict(row) for row in rows],
        "crossovers": crossovers(rows) if rows else [],
        "leftOut": left_out,
        "gpu": None if gpu is not None else why_no_gpu(),
        "machine": {
            "cpu": _cpu(),
            "threads": threads,
            "cores": os.cpu_count(),
            "faiss": faiss.__version__,
            "load1": os.getloadavg()[0],
            "peakBytes": peak_bytes(),
        },
        "data": {
            "kind": "synthetic, clustered",
            "dimension": options.dimension,
            "k": options.k,
            "queries": _QUERIES,
            "seed": options.seed,
        },
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gpuctl_serving.index.bench", description=__doc__)
    parser.add_argument("--sizes", type=_numbers, default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--batches", type=_numbers, default=[1, 32, 256])
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="of searching for each figure")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--gpu", type=int)
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _free_memory() -> int:
    try:
        with Path("/proc/meminfo").open() as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
        return kib * 1024
    except (OSError, StopIteration):
        return sys.maxsize


def _cpu() -> str:
    try:
        with Path("/proc/cpuinfo").open() as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
