"""Which batches to run before the first request, so that no real one pays what only a first one costs.

The first batch of a size costs more than the next: memory grows to its size, kernels are loaded and chosen
for its width. Sizes are bucketed: by width in powers of two; in each one text, a usual batch and the worst.
"""

from collections.abc import Iterable
from dataclasses import dataclass

#: The narrowest bucket. Below it nothing differs.
_NARROWEST = 16
#: What most requests together make.
_USUAL = 8
#: Above this many padded tokens a CPU's batches run in parts (see onnx_cpu.py): they are no new shapes.
_CPU_RUN = 1024


@dataclass(frozen=True, order=True)
class Shape:
    """A rectangle of texts of one length. Ordered by what it costs."""

    padded: int
    texts: int
    tokens: int

    @classmethod
    def of(cls, texts: int, tokens: int) -> "Shape":
        """So many texts of so many tokens each."""
        return cls(texts * tokens, texts, tokens)


def widths(max_tokens: int) -> list[int]:
    """The buckets of a text's length, up to the longest there is."""
    found = []
    width = min(_NARROWEST, max_tokens)
    while width < max_tokens:
        found.append(width)
        width *= 2
    return [*found, max_tokens]


def bucket(tokens: int, max_tokens: int) -> int:
    """The bucket that a text of this length falls into."""
    return next(width for width in widths(max_tokens) if tokens <= width)


def ladder(max_tokens: int, batch_tokens: int, *, cpu: bool) -> list[Shape]:
    """Every bucket with one text, a usual batch and its worst one, cheapest first; the worst of all is last.

    On a CPU only the widest bucket is run at its worst: larger batches run in parts that are in the list.
    """
    shapes = set()
    for width in widths(max_tokens):
        most = max(1, batch_tokens // width)
        usual = min(_USUAL, most, max(1, _CPU_RUN // width)) if cpu else min(_USUAL, most)
        shapes |= {Shape.of(1, width), Shape.of(usual, width)}
        if not cpu or width == max_tokens:
            shapes.add(Shape.of(most, width))
    return sorted(shapes)


class WarmUp:
    """What one engine has not run yet, in the order of what requests miss most. For one thread at a time."""

    def __init__(self, shapes: Iterable[Shape]) -> None:
        #: One text of every width first: most requests are one text, and a width is what kernels depend on.
        self.cold = sorted(shapes, key=lambda shape: (shape.texts > 1, shape))
        self._a_token: float | None = None

    def expected(self, shape: Shape) -> float:
        """Seconds it is likely to take: 0 before anything ran, then by the fastest so far.

        Per token small batches are the slowest, so the guess is too long rather than too short.
        """
        return shape.padded * (self._a_token or 0.0)

    def next(self, seconds: float) -> Shape | None:
        """The first that is likely to end within so many seconds; None when none is, or all have run."""
        if seconds <= 0:
            return None
        return next((shape for shape in self.cold if self.expected(shape) <= seconds), None)

    def ran(self, shape: Shape, seconds: float) -> None:
        """It is warm now."""
        a_token = seconds / shape.padded
        self._a_token = a_token if self._a_token is None else min(self._a_token, a_token)
        self.skip(shape)

    def skip(self, shape: Shape) -> None:
        """It is not to be run."""
        if shape in self.cold:
            self.cold.remove(shape)
