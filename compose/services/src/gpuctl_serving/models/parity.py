"""The gate before a quantised model: how near it is to its original, and whether a batch changes it."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.engines.protocol import Engine, Rows, TokenBatch, Tokens
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.manifest import Kind, Parity
from gpuctl_serving.models.probe_set import ProbeSet
from gpuctl_serving.models.probing import unit
from gpuctl_serving.models.tokenizer import ModelTokenizer

#: An embedder passes with either of these two ...
LEAST_MEAN_COSINE = 0.999
LEAST_OVERLAP = 0.98
#: ... a reranker with either of these two ...
LEAST_TAU = 0.95
#: Documents whose scores (0 to 1) are nearer than this have no order worth keeping.
LEAST_DIFFERENCE = 0.01
#: ... and both only when a text gets the same answer alone and among others.
LEAST_ALONE = 0.9999
MOST_LOGIT_SPREAD = 0.01

#: Neighbours of a text, and best of the 16 candidates of a query.
_TOP = 10
_TOP_RANKED = 5
_BATCH = 16
#: Texts asked again alone.
_ALONE = 32

#: Told how many of how many inferences are done.
Told = Callable[[int, int], None]


def measure(
    kind: Kind, original: Engine, copy: Engine, tokenizer: ModelTokenizer, pad: int, told: Told,
    *, probes: ProbeSet,
) -> Parity:  # fmt: skip
    """Compares two loaded engines of the same model on the probe set."""
    if kind == "embedder":
        return _vectors(original, copy, tokenizer.texts(probes.texts), pad, told)
    scored = [(tokenizer.pairs(query, documents), query) for query, documents in probes.scored()]
    return _scores(original, copy, [tokens for tokens, _ in scored], pad, told)


def refuse_unless_near(parity: Parity, what: str) -> None:
    """Raises ModelProblem with the figures unless the gate passes."""
    if parity.passed:
        return
    raise ModelProblem(
        f"{what} does not pass as int8",
        f"{describe(parity)}; needed: {_needed(parity)}",
        "leave `dtype` out of gpuctl.yaml: float32 has no such loss",
    )


def describe(parity: Parity) -> str:
    """The figures in one line."""
    if parity.kind == "embedder":
        return (
            f"mean cosine {parity.mean_cosine:.5f} (least {parity.least_cosine:.5f}), "
            f"top-{_TOP} overlap {parity.overlap:.3f}, alone against in a batch {parity.alone:.6f}, "
            f"on {parity.texts} texts"
        )
    return (
        f"Kendall tau {parity.tau:.4f}, top-{_TOP_RANKED} overlap {parity.overlap:.3f}, "
        f"logits alone and in a batch differ by at most {parity.spread:.1e}, on {parity.texts} pairs"
    )


def _needed(parity: Parity) -> str:
    if parity.kind == "embedder":
        return f"cosine {LEAST_MEAN_COSINE} or overlap {LEAST_OVERLAP}, and {LEAST_ALONE} alone"
    return f"tau {LEAST_TAU} or overlap {LEAST_OVERLAP}, and at most {MOST_LOGIT_SPREAD} alone"


def _vectors(original: Engine, copy: Engine, texts: Sequence[Tokens], pad: int, told: Told) -> Parity:
    total = 2 * len(texts) + _ALONE
    wanted = unit(_run(original, texts, pad, lambda done: told(done, total)))
    found = unit(_run(copy, texts, pad, lambda done: told(len(texts) + done, total)))
    chosen = _spread(len(texts), _ALONE)
    alone = unit(np.concatenate([copy.infer(TokenBatch.of([texts[i]], pad)) for i in chosen]))
    told(total, total)
    cosines = (wanted * found).sum(axis=1)
    # Asked once more in batches of other neighbours than the first time.
    mixed = unit(_run(copy, [texts[i] for i in chosen], pad, lambda _: None))
    together = min((found[chosen] * alone).sum(axis=1).min(), (mixed * alone).sum(axis=1).min())
    overlap = _overlap(_neighbours(wanted), _neighbours(found))
    mean = float(cosines.mean())
    passed = (mean >= LEAST_MEAN_COSINE or overlap >= LEAST_OVERLAP) and together >= LEAST_ALONE
    return Parity(
        kind="embedder", passed=bool(passed), texts=len(texts), overlap=_short(overlap),
        mean_cosine=_short(mean), least_cosine=_short(cosines.min()), alone=_short(together),
    )  # fmt: skip


def _scores(
    original: Engine, copy: Engine, queries: Sequence[Sequence[Tokens]], pad: int, told: Told
) -> Parity:
    pairs = [pair for candidates in queries for pair in candidates]
    total = 2 * len(pairs) + _ALONE
    wanted = _run(original, pairs, pad, lambda done: told(done, total))
    found = _run(copy, pairs, pad, lambda done: told(len(pairs) + done, total))
    chosen = _spread(len(pairs), _ALONE)
    alone = np.concatenate([copy.infer(TokenBatch.of([pairs[i]], pad)) for i in chosen])
    told(total, total)
    spread = float(np.abs(found[chosen] - alone).max())
    edges = np.cumsum([0, *map(len, queries)])
    rows = [(wanted[a:b], found[a:b]) for a, b in pairwise(edges)]
    taus = [tau for a, b in rows if (tau := kendall_tau(a, b)) is not None]
    tau = float(np.mean(taus)) if taus else 0.0
    overlap = float(
        np.mean([_overlap(_best(a[None], _TOP_RANKED), _best(b[None], _TOP_RANKED)) for a, b in rows])
    )
    passed = (tau >= LEAST_TAU or overlap >= LEAST_OVERLAP) and spread <= MOST_LOGIT_SPREAD
    return Parity(
        kind="cross-encoder", passed=passed, texts=len(pairs), overlap=_short(overlap),
        tau=_short(tau), spread=_short(spread),
    )  # fmt: skip


def _run(engine: Engine, rows: Sequence[Tokens], pad: int, told: Callable[[int], None]) -> Rows:
    """Answers in batches as a service makes them, except that nothing is sorted: lengths mix."""
    answers = []
    for at in range(0, len(rows), _BATCH):
        answers.append(engine.infer(TokenBatch.of(rows[at : at + _BATCH], pad)))
        told(min(at + _BATCH, len(rows)))
    joined = np.concatenate(answers)
    if not np.isfinite(joined).all():
        raise ModelProblem("the model gives values that are not finite numbers", "its weights are damaged")
    return joined


def kendall_tau(original: Rows, copy: Rows) -> float | None:
    """Share of pairs ranked alike less the share ranked otherwise; 1 is the same order.

    Counts pairs whose scores, 0 to 1, the original tells apart; None when there is none.
    """
    upper = np.triu_indices(len(original), 1)
    scores = 1 / (1 + np.exp(-original.astype(np.float64)))
    wanted = np.subtract.outer(scores, scores)[upper]
    found = np.subtract.outer(copy, copy)[upper]
    told_apart = np.abs(wanted) >= LEAST_DIFFERENCE
    if not told_apart.any():
        return None
    return float((np.sign(wanted) * np.sign(found))[told_apart].mean())


def _neighbours(vectors: Rows) -> NDArray[np.intp]:
    """For each text the nearest others."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    return _best(similar, _TOP)


def _best(scores: Rows, top: int) -> NDArray[np.intp]:
    best: NDArray[np.intp] = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return best


def _overlap(a: NDArray[np.intp], b: NDArray[np.intp]) -> float:
    shared = [len(set(x) & set(y)) / len(x) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    return float(np.mean(shared))


def _spread(count: int, wanted: int) -> list[int]:
    """Positions spread evenly over `count`."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(wanted, count))})


def _short(value: float) -> float:
    return round(float(value), 6)
