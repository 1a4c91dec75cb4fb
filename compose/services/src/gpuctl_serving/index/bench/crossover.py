"""Where one way of searching overtakes another, from measured rows. Pure."""

from collections.abc import Sequence
from typing import Any

from gpuctl_serving.index.bench.measure import Row

#: An approximate search counts as a replacement of an exact one from this recall on.
_GOOD = 0.95
#: Rates nearer than this are called equal: neighbours on a shared machine move more.
_CLEAR = 1.1


def crossovers(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each batch: from which size inverted lists beat Flat, and a GPU the CPU; None: at none measured."""
    found = []
    for batch in sorted({row.batch for row in rows}):
        own = [row for row in rows if row.batch == batch]
        cpu = {size: _best(own, size, "cpu") for size in _sizes(own)}
        flat = {row.vectors: row for row in own if row.type == "Flat" and row.device == "cpu"}
        gpu = {size: _best(own, size, "cuda") for size in _sizes(own) if _has_gpu(own)}
        found.append(
            {
                "batch": batch,
                "approximateBeatsFlatFrom": _from(
                    {size: (flat[size], best) for size, best in cpu.items() if size in flat}
                ),
                "gpuBeatsCpuFrom": _from({size: (cpu[size], best) for size, best in gpu.items()}),
                "gpuMeasured": _has_gpu(own),
                "fastest": [
                    {"vectors": size, "type": best.type, "device": best.device, "qps": best.qps}
                    for size, best in ((size, _fastest(cpu[size], gpu.get(size))) for size in _sizes(own))
                ],
            }
        )
    return found


def _best(rows: Sequence[Row], size: int, device: str) -> Row:
    """The fastest of a device that finds enough; exact search always does."""
    able = [r for r in rows if r.vectors == size and r.device == device and r.recall >= _GOOD]
    able = able or [r for r in rows if r.vectors == size and r.device == device]
    return max(able, key=lambda row: row.qps)


def _fastest(cpu: Row, gpu: Row | None) -> Row:
    return gpu if gpu is not None and gpu.qps > cpu.qps * _CLEAR else cpu


def _from(pairs: dict[int, tuple[Row, Row]]) -> int | None:
    """The smallest size from which the second wins clearly at it and at every larger one."""
    start = None
    for size in sorted(pairs, reverse=True):
        first, second = pairs[size]
        if second.qps <= first.qps * _CLEAR:
            break
        start = size
    return start


def _sizes(rows: Sequence[Row]) -> list[int]:
    return sorted({row.vectors for row in rows})


def _has_gpu(rows: Sequence[Row]) -> bool:
    return any(row.device == "cuda" for row in rows)
