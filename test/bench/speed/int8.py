"""INT8 against FP32: texts a second, and how far a text's vector depends on its neighbours in the batch."""

from pathlib import Path

import numpy as np

from . import load
from .rounds import Rounds, report, spread
from .servers import Server, service
from .texts import Corpus

TARGETS = {"int8ByFp32": ">= 1.5", "neighbourCosine": "said, and refused for embeddings below the gate"}


def measure(model: Path, int8_model: Path, rounds: int, requests: int) -> None:
    """The FP32 model and its INT8 twin, both out of the model store (`dtype: int8` under `models`)."""
    corpus, taken = Corpus(model / "tokenizer.json"), Rounds()
    base, quantised = {"model_dir": str(model)}, {"model_dir": str(int8_model), "dtype": "int8"}
    with service("embedder", base) as fp32, service("embedder", quantised) as int8:
        taken.take(
            {
                "fp32": lambda number: _rate(fp32, corpus, requests, number),
                "int8": lambda number: _rate(int8, corpus, requests, number),
            },
            rounds,
        )
        exact, neighbours = _accuracy(fp32, int8, corpus)
    figures = {
        "int8ByFp32": spread(taken.ratio("int8", "fp32")),
        "cosineToFp32": spread(exact),
        "neighbourCosine": spread(neighbours),
    }
    report("int8", figures, TARGETS)


def _rate(server: Server, corpus: Corpus, count: int, number: int) -> float:
    groups = [corpus.mixed(32, 1000 * number + at) for at in range(count)]
    requests = [load.request("/embed", {"inputs": texts}) for texts in groups]
    return 32 * count / load.run(server.port, requests, 4).seconds


def _accuracy(fp32: Server, int8: Server, corpus: Corpus) -> tuple[list[float], list[float]]:
    """Cosines of INT8 to FP32, and of INT8 in a batch to INT8 alone."""
    texts = corpus.mixed(64, 5)
    wanted = _rows(fp32, texts)
    together = _rows(int8, texts)
    alone = np.concatenate([_rows(int8, [text]) for text in texts])
    return (wanted * together).sum(axis=1).tolist(), (together * alone).sum(axis=1).tolist()


def _rows(server: Server, texts: list[str]) -> np.ndarray:
    return np.array(load.ask(server.port, "/embed", {"inputs": texts}), np.float32)
