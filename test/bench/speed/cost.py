"""What serving costs: CPU seconds a text through HTTP against the bare session, throughput, added latency."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from . import load
from .bare import Bare, cpu_seconds_of
from .rounds import Rounds, quantile, report, spread
from .servers import Server, service
from .texts import Corpus

TARGETS = {
    "cpuRatio32": "<= 1.15",
    "cpuRatio1": "<= 1.35",
    "throughputRatio32": ">= 0.80",
    "addedMsAtP50": "<= 2.5",
}


class Cost:
    """Both sides get texts of one length: sorting saves neither of them padding, what is left is serving."""

    def __init__(self, server: Server, bare: Bare, corpus: Corpus, requests: int) -> None:
        self._server, self._bare, self._corpus, self._requests = server, bare, corpus, requests

    def _texts(self, batch: int) -> list[list[str]]:
        count = self._requests if batch > 1 else 4 * self._requests
        return [self._corpus.long(batch, 13) for _ in range(count)]

    def cpu_bare(self, batch: int) -> float:
        """CPU seconds a text."""
        groups = self._texts(batch)
        return cpu_seconds_of(lambda: [self._bare.embed(texts) for texts in groups]) / _count(groups)

    def cpu_http(self, batch: int) -> float:
        """CPU seconds a text of the server's processes alone."""
        requests, count = _requests(groups := self._texts(batch)), _count(groups)
        before = self._server.cpu_seconds()
        load.run(self._server.port, requests, 1)
        return (self._server.cpu_seconds() - before) / count

    def rate_bare(self, batch: int) -> float:
        """Texts a second."""
        groups = self._texts(batch)
        started = time.perf_counter()
        for texts in groups:
            self._bare.embed(texts)
        return _count(groups) / (time.perf_counter() - started)

    def rate_http(self, batch: int, clients: int) -> float:
        """Texts a second, the client on the same cores."""
        groups = self._texts(batch)
        return _count(groups) / load.run(self._server.port, _requests(groups), clients).seconds

    def latency_bare(self) -> float:
        """Milliseconds at p50, one text after the other."""
        samples = []
        for (text,) in self._texts(1):
            started = time.perf_counter()
            self._bare.embed([text])
            samples.append((time.perf_counter() - started) * 1000)
        return quantile(samples, 0.5)

    def latency_http(self) -> float:
        """The same through HTTP, from an idle client to an idle server."""
        return quantile(load.run(self._server.port, _requests(self._texts(1)), 1).latencies, 0.5)


def measure(model: Path, rounds: int, requests: int) -> None:
    """Prints the ratios."""
    bare, corpus = Bare(model), Corpus(model / "tokenizer.json")
    with service("embedder", {"model_dir": str(model), "log_level": "info"}) as server:
        check(bare, server, corpus)
        cost, taken = Cost(server, bare, corpus, requests), Rounds()
        arms: dict[str, Callable[[int], float]] = {
            "cpuBare32": lambda _: cost.cpu_bare(32),
            "cpuHttp32": lambda _: cost.cpu_http(32),
            "cpuBare1": lambda _: cost.cpu_bare(1),
            "cpuHttp1": lambda _: cost.cpu_http(1),
            "rateBare32": lambda _: cost.rate_bare(32),
            "rateHttp32": lambda _: cost.rate_http(32, 4),
            "msBare": lambda _: cost.latency_bare(),
            "msHttp": lambda _: cost.latency_http(),
        }
        taken.take(arms, rounds)
        figures = {
            "cpuRatio32": spread(taken.ratio("cpuHttp32", "cpuBare32")),
            "cpuRatio1": spread(taken.ratio("cpuHttp1", "cpuBare1")),
            "throughputRatio32": spread(taken.ratio("rateHttp32", "rateBare32")),
            "addedMsAtP50": spread(taken.difference("msHttp", "msBare")),
            "cpuBareMs1": spread([1000 * value for value in taken.values["cpuBare1"]]),
            "cpuHttpMs1": spread([1000 * value for value in taken.values["cpuHttp1"]]),
            "bareTextsPerSecond32": spread(taken.values["rateBare32"]),
            "bareMsAtP50": spread(taken.values["msBare"]),
            "startToReadySeconds": round(server.started_in, 2),
        }
    report("cost", figures, TARGETS)


def check(bare: Bare, server: Server, corpus: Corpus) -> None:
    """Figures of a server that answers wrongly are worth nothing."""
    texts = corpus.short(32)
    rows = np.array(load.ask(server.port, "/embed", {"inputs": texts}), np.float32)
    if (worst := float((rows * bare.embed(texts)).sum(axis=1).min())) < 0.9999:
        raise RuntimeError(f"the service answers wrongly: cosine {worst}")


def _requests(groups: Sequence[Sequence[str]]) -> list[bytes]:
    return [load.request("/embed", {"inputs": list(texts)}) for texts in groups]


def _count(groups: Sequence[Sequence[str]]) -> int:
    return sum(map(len, groups))
