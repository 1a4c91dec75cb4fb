"""The index's settings, and the variables of other FAISS services it understands."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gpuctl_serving.index.ann.plan import (
    GPU_CODE_SIZES,
    LARGEST_NLIST,
    SMALLEST_NLIST,
    Plan,
    Policy,
    Wish,
    best_code_size,
    gpu_problems,
)
from gpuctl_serving.index.ann.replica.policy import ReplicaPolicy
from gpuctl_serving.index.durable.log import Policy as LogPolicy
from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.settings import MIB, Alias, Notes, Settings

#: The manifest's `generation` ends in the dimension.
_DIMENSION_OF_GENERATION = re.compile(r"\|(\d{1,5})$")
#: What people call the index types, FAISS's class names among it.
_KINDS: dict[str, Wish] = {
    "auto": "auto",
    **dict.fromkeys(("flat", "indexflat", "indexflatip", "indexflatl2"), "Flat"),
    **dict.fromkeys(("ivfflat", "indexivfflat"), "IVFFlat"),
    **dict.fromkeys(("ivfpq", "indexivfpq"), "IVFPQ"),
}
MAX_DIMENSION = 16_384


@dataclass(frozen=True, kw_only=True)
class IndexSettings(Settings):
    """What the index reads on top of the settings every service has."""

    max_body_bytes: int = field(default=32 * MIB, metadata={"min": 1024})
    #: Holds the database, its write-ahead log and the writer's lock.
    index_dir: Path
    #: 0: from the generation, else from the first add.
    index_dimension: int = field(default=0, metadata={"min": 0, "max": MAX_DIMENSION})
    #: auto (by size), Flat, IVFFlat or IVFPQ.
    index_type: str = "auto"
    #: Inverted lists; 0: by size.
    index_nlist: int = field(default=0, metadata={"min": 0, "max": LARGEST_NLIST})
    #: Bytes of an IVFPQ code; 0: the most a GPU takes for the dimension, of eight dimensions a byte.
    index_pq_m: int = field(default=0, metadata={"min": 0, "max": max(GPU_CODE_SIZES)})
    #: Share of the true neighbours that searches of inverted lists look for.
    index_recall: float = field(default=0.95, metadata={"min": 0.01, "max": 1})
    #: Namespaces of fewer vectors are searched by the CPU alone.
    index_replica_from: int = field(default=10_000, metadata={"min": 1})
    #: The GPU's copy is made anew after so many changes, or so many seconds with any.
    index_replica_writes: int = field(default=10_000, metadata={"min": 1})
    index_replica_seconds: int = field(default=60, metadata={"min": 1})
    #: A GPU search that takes longer is answered by the CPU, and the GPU's process started again.
    index_replica_timeout_ms: int = field(default=1000, metadata={"min": 10})
    #: What FAISS may take on the card beside the index itself.
    index_gpu_temp_mib: int = field(default=256, metadata={"min": 0, "max": 65_536})
    #: Which embedding space the vectors belong to; empty: `dim:<dimension>`.
    index_generation: str = ""
    #: Whom to ask for the vectors of texts: `http://host:port` or `unix:/path`.
    embedder_url: str = ""

    #: always: a write is on disk before it is acknowledged. interval: at most GPUCTL_INDEX_FSYNC_MS later.
    index_fsync: Literal["always", "interval"] = "always"
    index_fsync_ms: int = field(default=100, metadata={"min": 1, "max": 60_000})
    #: A segment of the log ends beyond this size.
    index_segment_mb: int = field(default=32, metadata={"min": 1, "max": 1024})
    #: A snapshot is made so often if something changed; 0: never by the clock.
    index_snapshot_seconds: int = field(default=3600, metadata={"min": 0})
    #: And after so many changes; 0: never by their number.
    index_snapshot_writes: int = field(default=100_000, metadata={"min": 0})
    #: Snapshots that are kept, at least.
    index_snapshots_kept: int = field(default=2, metadata={"min": 1, "max": 100})

    @property
    def log_policy(self) -> LogPolicy:
        """What the settings say of the append log."""
        interval = self.index_fsync_ms / 1000 if self.index_fsync == "interval" else None
        return LogPolicy(interval, self.index_segment_mb * MIB)

    @property
    def replica_policy(self) -> ReplicaPolicy:
        """What the settings say of the GPU's copy."""
        return ReplicaPolicy(
            self.index_replica_from,
            self.index_replica_writes,
            self.index_replica_seconds,
            self.index_replica_timeout_ms / 1000,
            self.index_gpu_temp_mib,
        )

    @property
    def policy(self) -> Policy:
        """What the settings say of the index type."""
        return Policy(_KINDS.get(self.index_type.lower(), "auto"), self.index_nlist, self.index_pq_m)

    @property
    def known_dimension(self) -> int:
        """The dimension as far as the settings alone tell it; 0 when they do not."""
        found = _DIMENSION_OF_GENERATION.search(self.index_generation)
        return self.index_dimension or (int(found.group(1)) if found else 0)


def check(settings: IndexSettings) -> None:
    """Refuses what this version cannot do. Raises LoadFailed."""
    if settings.index_type.lower() not in _KINDS:
        raise LoadFailed(
            f"GPUCTL_INDEX_TYPE={settings.index_type} is unknown. Use auto, Flat, IVFFlat or IVFPQ."
        )
    if settings.require in ("cuda", "mps"):
        # Empty at first, and searched on the CPU while it is small: it could not become ready to be filled.
        raise LoadFailed(
            f"GPUCTL_REQUIRE={settings.require} cannot be met by an index: its CPU copy always answers, a "
            "GPU only takes searches of large namespaces from it. Unset it; GPUCTL_DEVICE=cuda asks for one."
        )
    _check_shape(settings)
    told = _DIMENSION_OF_GENERATION.search(settings.index_generation)
    if told and settings.index_dimension and int(told.group(1)) != settings.index_dimension:
        raise LoadFailed(
            f"GPUCTL_INDEX_DIMENSION={settings.index_dimension} contradicts GPUCTL_INDEX_GENERATION, which "
            f"ends in {told.group(1)}. Unset GPUCTL_INDEX_DIMENSION: the generation names the dimension."
        )
    url = settings.embedder_url
    if url and not url.startswith(("http://", "unix:/")):
        raise LoadFailed(
            f"GPUCTL_EMBEDDER_URL={url} cannot be used. Give http://host:port or unix:/path/to/socket."
        )


def _check_shape(settings: IndexSettings) -> None:
    """What could never move to a GPU is refused while it is empty, on CPU hosts too."""
    policy, dimension = settings.policy, settings.known_dimension
    if policy.wish not in ("auto", "IVFPQ") or not policy.m or not dimension:
        return
    plan = Plan("IVFPQ", policy.nlist or SMALLEST_NLIST, policy.m)
    if problems := gpu_problems(plan, dimension):
        best = best_code_size(dimension)
        raise LoadFailed(
            f"GPUCTL_INDEX_PQ_M={policy.m} cannot be used: {'; '.join(problems)}. "
            + (f"Unset it, or set it to {best}." if best else "Unset it.")
        )


def _device(text: str) -> str:
    if text.lower() in {"1", "true", "yes", "on"}:
        return "cuda"
    if text.lower() in {"0", "false", "no", "off", ""}:
        return "cpu"
    raise ValueError("must be true or false")


def _level(text: str) -> str:
    names = {"warn": "warning", "critical": "error", "fatal": "error", "trace": "debug", "notset": "debug"}
    return names.get(text.lower(), text.lower())


ALIASES = (
    Alias("FAISS_ENABLE_GPU", "device", _device),
    Alias("VECTOR_STORE_DIMENSION", "index_dimension"),
    Alias("VECTOR_STORE_INDEX_TYPE", "index_type"),
    Alias("LOG_LEVEL", "log_level", _level),
)

#: Understood, but without an effect here, and why. Values are never repeated: one of them is a password.
WITHOUT_EFFECT = {
    "FAISS_GPU_ID": "the card is chosen by `gpu` of the service",
    "CUDA_VISIBLE_DEVICES": "the card is chosen by `gpu` of the service",
    "GPU_MEMORY_LIMIT": "GPUCTL_INDEX_GPU_TEMP_MIB limits what FAISS takes beside the index",
    "VECTOR_STORE_BATCH_SIZE": "commits are grouped anyway, and a request may carry GPUCTL_MAX_ITEMS items",
    "REDIS_PASSWORD": "the index keeps everything in its own database and asks no Redis",
}


def load_settings(env: Mapping[str, str]) -> tuple[IndexSettings, Notes]:
    """Reads the settings with their aliases. Raises SettingsError naming every variable that is wrong."""
    settings, notes = IndexSettings.load(env, ALIASES)
    said = list(notes.aliases)
    said += [f"{name} has no effect here: {why}" for name, why in WITHOUT_EFFECT.items() if name in env]
    kind = env.get("VECTOR_STORE_TYPE")
    if kind is not None:
        known = kind.lower() in {"faiss", "faiss-cpu", "faiss_cpu", "faiss-gpu", "faiss_gpu"}
        tail = "FAISS is the only store" if known else f"this is a FAISS store, not {kind!r}"
        said.append(f"VECTOR_STORE_TYPE has no effect here: {tail}")
    if settings.index_type.lower() == "indexflatl2":
        said.append("IndexFlatL2 is served by Flat: on normalised vectors both orders are the same")
    return settings, dataclasses.replace(notes, aliases=tuple(said))
