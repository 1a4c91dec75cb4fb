"""When the GPU's copy is made, and what it may cost."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReplicaPolicy:
    """When to clone, and what a search may cost."""

    #: Smaller namespaces are searched faster by the CPU.
    smallest: int = 10_000
    writes: int = 10_000
    seconds: float = 60.0
    search_seconds: float = 1.0
    temp_mib: int = 256
