"""What the world is told of the GPU's copy: health, info, statistics, metrics and headers all read this."""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

#: Why the CPU answers where a GPU could; label values of `gpuctl_vector_replica_faults_total`.
Reason = Literal[
    "out-of-memory",
    "device-error",
    "replica-died",
    "replica-hung",
    "replica-busy",
    "no-clone",
    "load-failure",
    "copy-failure",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
#: `off`: there is none; `starting`: its process opens the device; `waiting`: nothing is large enough to copy;
#: `copying`: the first copy, or the next, is being made; `searching`: it answers; `failed`: it is tried again
#: at `retry_at`. It is the largest namespace's state: in all but `searching` the CPU answers its searches.
ReplicaState = Literal["off", "starting", "waiting", "copying", "searching", "failed"]
STATES: tuple[ReplicaState, ...] = get_args(ReplicaState)


@dataclass(frozen=True)
class Told:
    """The GPU's copy at one moment."""

    state: ReplicaState
    #: The device that its process has open.
    device: str | None = None
    #: One word, while something is wrong; while it searches, with the copy of a smaller namespace.
    reason: Reason | Literal["provider-absent"] | None = None
    #: For people: why it does not search.
    detail: str | None = None
    #: On the monotonic clock: when it is tried again.
    retry_at: float | None = None
    #: When it came to be so.
    since: str = ""

    @property
    def searcher(self) -> str:
        """The device that answers a search of the largest namespace."""
        return self.device or "cpu" if self.state == "searching" else "cpu"

    def after(self, before: "Told | None") -> "Told":
        """The same, since when it is so."""
        if before is not None and self._what() == before._what():
            return replace(self, since=before.since)
        return replace(self, since=datetime.now(UTC).isoformat(timespec="milliseconds"))

    def body(self) -> dict[str, Any]:
        """For JSON."""
        left = None if self.retry_at is None else max(0.0, self.retry_at - time.monotonic())
        return {
            "state": self.state,
            "device": self.device,
            "since": self.since,
            "reason": self.reason,
            "detail": self.detail,
            "retry_in_seconds": None if left is None else round(left, 1),
        }

    def _what(self) -> tuple[str, str | None, str | None]:
        return self.state, self.device, self.reason


def off(wish: str, lacking: str | None) -> Told:
    """There is none. `lacking` is why no GPU could search here."""
    if wish == "cpu":
        return Told("off", detail="GPUCTL_DEVICE=cpu asks for the CPU").after(None)
    if wish == "mps":
        lacking = "FAISS does not search on Apple GPUs"
    return Told("off", None, None if wish == "auto" else "provider-absent", lacking).after(None)
