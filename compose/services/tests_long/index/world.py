"""What an attacked index must hold: every acknowledged change, and both states of what was cut off."""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tests.index.support import in_base64

DIMENSION = 16
COLOURS = ("red", "green", "blue", "grey")


def vector_of(number: int, version: int) -> Any:
    """The unit vector of an item's version; a function of both, so that any answer can be checked."""
    random = np.random.default_rng((number, version)).standard_normal(DIMENSION)
    return (random / np.linalg.norm(random)).astype(np.float32)


def colour_of(number: int, version: int) -> str:
    """Changes with the version: a filter's answer is wrong when it is of another moment."""
    return COLOURS[(number + version) % len(COLOURS)]


@dataclass
class Fate:
    """One id. Odd versions of it exist, even ones are deletions; 0: it never was."""

    #: Whatever is older was overwritten by an acknowledged change.
    sure: int = 0
    #: The newest that was sent.
    sent: int = 0
    #: In between, every version that was sent and not answered.
    doubtful: set[int] = field(default_factory=set)

    @property
    def allowed(self) -> set[int]:
        """What it may be when nothing is under way."""
        return {self.sure, *self.doubtful}


class World:
    """The fates of all ids. Each id is written by one thread; anybody may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.fates: dict[int, Fate] = {}

    def item(self, number: int, version: int) -> dict[str, Any]:
        """One item of an add."""
        return {
            "id": number,
            "vectorBase64": in_base64(vector_of(number, version)),
            "text": f"{number} in version {version}",
            "metadata": {"v": version, "n": number, "colour": colour_of(number, version)},
        }

    def next_versions(self, numbers: list[int], *, there: bool) -> dict[int, int]:
        """Versions to send for these ids, which exist afterwards or do not."""
        with self._lock:
            made = {}
            for number in numbers:
                fate = self.fates.setdefault(number, Fate())
                step = 1 if (fate.sent % 2 == 0) == there else 2
                fate.sent += step
                fate.doubtful.add(fate.sent)
                made[number] = fate.sent
            return made

    def acknowledged(self, versions: dict[int, int]) -> None:
        """They were answered with a 200."""
        with self._lock:
            for number, version in versions.items():
                fate = self.fates[number]
                fate.sure, fate.doubtful = version, set()

    def refused(self, versions: dict[int, int]) -> None:
        """They were answered that nothing was stored: they must never be seen."""
        with self._lock:
            for number, version in versions.items():
                self.fates[number].doubtful.discard(version)

    def floor(self) -> dict[int, int]:
        """The acknowledged version of each id, now."""
        with self._lock:
            return {number: fate.sure for number, fate in self.fates.items()}

    def ceiling(self, number: int) -> int:
        """The newest version of an id that was sent."""
        with self._lock:
            return self.fates[number].sent

    def settle(self, found: dict[int, int]) -> list[str]:
        """Compares with what the index holds (id -> version): what is wrong. Nothing is doubtful then."""
        wrong = []
        for number, fate in self.fates.items():
            version = found.get(number)
            if version is None:
                # A deletion that was sent, or nothing yet.
                gone = [one for one in fate.allowed if one % 2 == 0]
                if not gone:
                    wrong.append(f"{number}: lost; allowed {sorted(fate.allowed)}")
                    continue
                version = max(gone)
            elif version not in fate.allowed:
                wrong.append(f"{number}: version {version}; allowed {sorted(fate.allowed)}")
                continue
            fate.sure, fate.doubtful = version, set()
        wrong += [f"{number}: never sent" for number in found.keys() - self.fates.keys()]
        return wrong

    @property
    def there(self) -> list[int]:
        """Ids that exist, when nothing is under way."""
        return sorted(number for number, fate in self.fates.items() if fate.sure % 2)
