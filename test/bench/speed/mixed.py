"""Mixed lengths at saturation: how much is padding, what sorting is worth, and whether short texts starve."""

import asyncio
import time
from pathlib import Path

from . import load
from .bare import Bare
from .rounds import Rounds, quantile, report, spread
from .servers import Server, service
from .texts import Corpus

TARGETS = {
    "paddedByReal": "<= 1.10",
    "sortedByUnsorted": ">= 2",
    "sortedByArrivalOrder": ">= 2: batches of 32 as they come, each padded to its longest, without any HTTP",
    "shortP95ByIdle": "< 3",
}
_CONCURRENCY = 32
#: Short texts of a round beside long ones: of fewer, the 95th percentile would be the slowest of all.
_SHORT = 150


def measure(model: Path, rounds: int, requests: int) -> None:
    """Prints the ratios. `requests` of one text each a round."""
    corpus, taken = Corpus(model / "tokenizer.json"), Rounds()
    base = {"model_dir": str(model)}
    count = requests * 16
    naive = Bare(model, sort=False)
    with (
        service("embedder", base) as sorting,
        service("embedder", {**base, "sort_batches": "false"}) as unsorted,
    ):
        taken.take(
            {
                "sorted": lambda number: _rate(sorting, corpus, count, number),
                "unsorted": lambda number: _rate(unsorted, corpus, count, number),
                "arrival order": lambda number: _alone(naive, corpus, count, number),
            },
            rounds,
        )
        padding = {"sorted": _padding(sorting), "unsorted": _padding(unsorted)}
        starving = [_starving(sorting, corpus, _SHORT) for _ in range(rounds)]
    figures = {
        "paddedByReal": round(padding["sorted"], 3),
        "paddedByRealUnsorted": round(padding["unsorted"], 3),
        "sortedByUnsorted": spread(taken.ratio("sorted", "unsorted")),
        "sortedByArrivalOrder": spread(taken.ratio("sorted", "arrival order")),
        "textsPerSecond": spread(taken.values["sorted"]),
        "shortP95ByIdle": spread([busy / idle for idle, busy in starving]),
        "shortIdleMsP50": spread([idle for idle, _ in starving]),
    }
    report("mixed", figures, TARGETS)


def _rate(server: Server, corpus: Corpus, count: int, number: int) -> float:
    requests = [load.request("/embed", {"inputs": text}) for text in corpus.mixed(count, number + 100)]
    return count / load.run(server.port, requests, _CONCURRENCY).seconds


def _alone(bare: Bare, corpus: Corpus, count: int, number: int) -> float:
    texts = corpus.mixed(count, number + 100)
    started = time.perf_counter()
    bare.embed(texts)
    return count / (time.perf_counter() - started)


def _padding(server: Server) -> float:
    """Padded by real tokens of all batches since the start: their own sums, not an average of ratios."""
    padded = server.metric("gpuctl_batch_tokens_sum")
    return padded / server.metric("gpuctl_computed_tokens_total")


def _starving(server: Server, corpus: Corpus, requests: int) -> tuple[float, float]:
    """Milliseconds of a 13-token text: at p50 on an idle server, at p95 while long requests fill the queue."""
    short = [load.request("/embed", {"inputs": text}) for text in corpus.long(2 * requests, 13)]
    idle = quantile(load.run(server.port, short, 1).latencies, 0.5)
    long = [load.request("/embed", {"inputs": [text]}) for text in corpus.long(64, 256)]
    short = [load.request("/embed", {"inputs": text}) for text in corpus.long(requests, 13)]
    return idle, quantile(asyncio.run(_beside(server.port, long, short)), 0.95)


async def _beside(port: int, long: list[bytes], short: list[bytes]) -> list[float]:
    over = asyncio.Event()

    async def fill(first: int) -> None:
        connection, at = load.Connection(port), first
        while not over.is_set():
            # The same text again would wait for itself: each client has its own.
            await connection.post(long[at % len(long)])
            at += 16
        await connection.close()

    async def sip() -> list[float]:
        connection, samples = load.Connection(port), []
        await asyncio.sleep(1)
        for one in short:
            sent = time.perf_counter()
            await connection.post(one)
            samples.append((time.perf_counter() - sent) * 1000)
        over.set()
        await connection.close()
        return samples

    *_, samples = await asyncio.gather(*(fill(first) for first in range(16)), sip())
    return samples
