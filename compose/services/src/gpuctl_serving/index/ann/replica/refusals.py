"""Namespaces whose copy was refused or given up, and when each is tried again."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from gpuctl_serving.index.ann.replica.told import Reason


@dataclass(frozen=True)
class Refusal:
    """Why a namespace has no copy, or not the next one."""

    reason: Reason
    #: For people.
    text: str
    #: On the monotonic clock.
    again: float


class Refusals:
    """At most one for each namespace. Searches add to it while the keeper's thread reads it."""

    def __init__(self) -> None:
        self._of: dict[int, Refusal] = {}

    def add(self, ns: int, refusal: Refusal) -> None:
        """In the place of the one before it."""
        self._of[ns] = refusal

    def forget(self, ns: int) -> None:
        """It has its copy, or is to have none."""
        self._of.pop(ns, None)

    def waits(self, ns: int) -> bool:
        """Whether it is too early for the next try."""
        refusal = self._of.get(ns)
        return refusal is not None and refusal.again > time.monotonic()

    def first(self, namespaces: Iterable[int]) -> Refusal | None:
        """That of the first of these that has one."""
        found = (self._of.get(ns) for ns in namespaces)
        return next((refusal for refusal in found if refusal is not None), None)
