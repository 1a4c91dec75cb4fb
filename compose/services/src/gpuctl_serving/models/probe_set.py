"""The committed texts by which a quantised model is compared with its FP32 original, and calibrated."""

import json
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

#: Passages joined to texts of a few hundred tokens, as chunks of documents are.
_JOINED = 4
#: Passages that each query is scored against.
_CANDIDATES = 16
_QUERIES = 24
#: From one candidate to the next: far enough to be of another field.
_STRIDE = 11


@dataclass(frozen=True)
class ProbeSet:
    """Queries with their answers, and other texts to calibrate with: what calibrates never judges."""

    calibration: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Queries, passages, and long texts made of several passages."""
        passages = [passage for _, passage in self.pairs]
        long = [" ".join(passages[at : at + _JOINED]) for at in range(0, len(passages), 2)]
        return (*(query for query, _ in self.pairs), *passages, *long)

    def scored(self) -> list[tuple[str, list[str]]]:
        """Queries with passages to rank: the right one, and others of many fields."""
        count = len(self.pairs)
        chosen = range(0, count, max(1, count // _QUERIES))
        return [
            (self.pairs[i][0], [self.pairs[(i + step * _STRIDE) % count][1] for step in range(_CANDIDATES)])
            for i in list(chosen)[:_QUERIES]
        ]


def probe_set() -> ProbeSet:
    """The set that ships with this package."""
    file = resources.files("gpuctl_serving.models").joinpath("parity_set/texts.json")
    read = json.loads(file.read_text(encoding="utf-8"))
    return ProbeSet(tuple(read["calibration"]), tuple((query, answer) for query, answer in read["pairs"]))
