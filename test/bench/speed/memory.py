"""Memory under minutes of mixed shapes, and the time from start to ready."""

import random
import statistics
import time
from pathlib import Path

from . import load
from .rounds import report, spread
from .servers import Server, service
from .texts import Corpus

TARGETS = {
    "peakRssMiB": "<= 350 (all processes of the embedder; shared pages count twice)",
    "growthMiB": "flat: the last quarter within 5 % of the second",
    "startToReadySeconds": "<= 3, imports included",
    "idleCpuShare": "no spinning: under 0.02 of a core",
}
#: Sixteen requests of 64 long texts are more than the default queue takes: nothing may be refused here.
_ROOM = {"max_queue_tokens": "1000000", "deadline_ms": "300000"}


def measure(model: Path, seconds: float) -> None:
    """`seconds` of load (300 stands for an hour), sampled four times a second."""
    corpus = Corpus(model / "tokenizer.json")
    starts = []
    for _ in range(3):
        with service("embedder", {"model_dir": str(model)}) as server:
            starts.append(server.started_in)
    with service("embedder", {"model_dir": str(model), **_ROOM}) as server:
        starts.append(server.started_in)
        ready = server.rss_mib()
        samples = _under_load(server, corpus, seconds)
        quiet_after = _until_warm(server)
        idle = _share(server, 10)
    quarter = max(1, len(samples) // 4)
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    figures = {
        "startToReadySeconds": spread(starts),
        "rssMiBWhenReady": round(ready, 1),
        "peakRssMiB": round(max(samples), 1),
        "secondQuarterMiB": round(statistics.median(second), 1),
        "lastQuarterMiB": round(statistics.median(last), 1),
        "growthMiB": round(statistics.median(last) - statistics.median(second), 1),
        "idleCpuShare": round(idle, 4),
        "quietAfterSeconds": quiet_after,
        "seconds": seconds,
    }
    report("memory", figures, TARGETS)


def _share(server: Server, seconds: float) -> float:
    before = server.cpu_seconds()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / seconds


def _until_warm(server: Server) -> float:
    """Seconds until the service had run what it runs while nobody asks. It lets a batch wait for 10 s of quiet at most."""
    began, quiet_since = time.monotonic(), time.monotonic()
    while (now := time.monotonic()) - quiet_since < 12 and now - began < 240:
        if _share(server, 1) >= 0.02:
            quiet_since = time.monotonic()
    return round(quiet_since - began, 1)


def _under_load(server: Server, corpus: Corpus, seconds: float) -> list[float]:
    """Requests of 1 to 64 texts of 4 to 264 tokens, 1 to 16 at a time."""
    shapes = random.Random(3)  # noqa: S311 - reproducible shapes, not a secret
    samples, until, number = list[float](), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        number += 1
        batch = shapes.choice((1, 1, 2, 8, 32, 64))
        concurrency = shapes.choice((1, 4, 16))
        longest = shapes.choice((20, 64, 264))
        texts = [corpus.mixed(batch, number * 100 + at, 4, longest) for at in range(concurrency)]
        load.run(
            server.port,
            [load.request("/embed", {"inputs": group}) for group in texts],
            concurrency,
        )
        samples.append(server.rss_mib())
    return samples
