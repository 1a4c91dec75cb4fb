"""A 6-layer, 384-wide cross-encoder of random weights: 20 pairs of 128 tokens against the bare session."""

import time
from pathlib import Path

from . import load
from .bare import Bare
from .cross_encoder import make_cross_encoder
from .rounds import Rounds, quantile, report, spread
from .servers import Server, service
from .texts import Corpus

TARGETS = {"p50ByBare": "<= 1.05"}
_PAIRS = 20


def measure(model: Path, rounds: int, requests: int, scratch: Path) -> None:
    """`model` gives the tokenizer; weights make no difference to the time."""
    scorer = make_cross_encoder(model, scratch)
    corpus, bare, taken = Corpus(model / "tokenizer.json"), Bare(scorer), Rounds()
    with service("reranker", {"model_dir": str(scorer)}) as server:
        taken.take(
            {
                "bare": lambda _: _bare(bare, corpus, requests),
                "http": lambda _: _http(server, corpus, requests),
            },
            rounds,
        )
    figures = {
        "p50ByBare": spread(taken.ratio("http", "bare")),
        "bareMs": spread(taken.values["bare"]),
        "httpMs": spread(taken.values["http"]),
    }
    report("rerank", figures, TARGETS)


def _questions(corpus: Corpus, count: int) -> list[tuple[str, list[str]]]:
    # Query, document and the three special tokens make 128.
    return [(corpus.long(1, 12)[0], corpus.long(_PAIRS, 117)) for _ in range(count)]


def _bare(bare: Bare, corpus: Corpus, count: int) -> float:
    samples = []
    for query, texts in _questions(corpus, count):
        started = time.perf_counter()
        bare.score(query, texts)
        samples.append((time.perf_counter() - started) * 1000)
    return quantile(samples, 0.5)


def _http(server: Server, corpus: Corpus, count: int) -> float:
    asked = [load.request("/rerank", {"query": q, "texts": texts}) for q, texts in _questions(corpus, count)]
    return quantile(load.run(server.port, asked, 1).latencies, 0.5)
