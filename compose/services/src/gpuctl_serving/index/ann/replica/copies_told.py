"""What the copies on an open device amount to: one state out of every namespace's."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gpuctl_serving.index.ann.replica.refusals import Refusal, Refusals
from gpuctl_serving.index.ann.replica.told import ReplicaState, Told


@dataclass(frozen=True)
class Copies:
    """All there is to know of them at one moment."""

    device: str
    #: Namespace -> its vectors.
    sizes: Mapping[int, int]
    #: Fewer vectors are not copied.
    smallest: int
    #: The namespaces that are searched on the device.
    active: Collection[int]
    refusals: Refusals
    #: The namespace whose copy is being made.
    making: int | None
    #: Whether the device's process is busy with it, so that the CPU answers for all.
    loading: bool
    #: Why the keeper pauses.
    trouble: Refusal | None

    def told(self) -> Told:
        """The state is that of the largest namespace, the reason that of the largest without its copy."""
        largest_first = sorted(self.sizes, key=lambda ns: (self.sizes[ns], ns in self.active), reverse=True)
        largest = largest_first[0] if largest_first else None
        lacking = [ns for ns in largest_first if ns not in self.active and self.sizes[ns] >= self.smallest]
        refused = self.refusals.first(lacking)
        if largest in self.active and not self.loading:
            return self._because("searching", refused)
        # A smaller one's copy that is made meanwhile changes nothing for the largest.
        stuck = largest is not None and largest in lacking and self.refusals.first([largest]) is not None
        if self.making is not None and (self.making == largest or not stuck):
            return self._copying(refused or self.trouble, "the GPU's copy is being made")
        if self.trouble is not None and self.trouble.again > time.monotonic():
            return self._because("failed", self.trouble)
        if refused is not None:
            return self._because("failed", refused)
        if lacking:
            return self._copying(self.trouble, "the GPU's copy is about to be made")
        few = f"no namespace has {self.smallest} vectors (GPUCTL_INDEX_REPLICA_FROM)"
        return Told("waiting", self.device, None, few)

    def _because(self, state: ReplicaState, why: Refusal | None) -> Told:
        if why is None:
            return Told(state, self.device)
        return Told(state, self.device, why.reason, why.text, why.again)

    def _copying(self, why: Refusal | None, otherwise: str) -> Told:
        reason, text = (why.reason, why.text) if why is not None else (None, otherwise)
        return Told("copying", self.device, reason, text)
