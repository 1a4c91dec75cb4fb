"""What is measured, by how much time there is."""

from dataclasses import dataclass

from gpu_check.shapes import BGE_M3, BGE_RERANKER, MINILM_SHAPE, QUICK_EMBEDDER, QUICK_RERANKER, Shape


@dataclass(frozen=True)
class Plan:
    """Sizes and durations."""

    #: Seconds a measured case takes.
    seconds: float
    batches: tuple[int, ...]
    candidates: tuple[int, ...]
    #: Tokens a text, for the embedders and for the pairs.
    tokens: tuple[int, ...]
    pair_tokens: tuple[int, ...]
    #: Random-weight models; MiniLM's shape stands in where the real one is not there.
    embedder: Shape
    reranker: Shape
    minilm: Shape
    #: Rounds of raw, HTTP, raw, HTTP, ...
    rounds: int
    round_seconds: float
    ladder_most_tokens: int
    kill_seconds: float


FULL = Plan(
    seconds=3.0,
    batches=(1, 8, 32, 128),
    candidates=(20, 50, 100),
    tokens=(16, 128, 256),
    pair_tokens=(128, 512),
    embedder=BGE_M3,
    reranker=BGE_RERANKER,
    minilm=MINILM_SHAPE,
    rounds=3,
    round_seconds=5.0,
    ladder_most_tokens=1 << 24,
    kill_seconds=5.0,
)
#: Proves the check itself in a minute or two, with models so small that the figures mean nothing.
QUICK = Plan(
    seconds=0.1,
    batches=(1, 8, 32, 128),
    candidates=(20, 50, 100),
    tokens=(16,),
    pair_tokens=(32,),
    embedder=QUICK_EMBEDDER,
    reranker=QUICK_RERANKER,
    minilm=QUICK_EMBEDDER,
    rounds=1,
    round_seconds=1.0,
    ladder_most_tokens=1 << 24,
    kill_seconds=1.0,
)
