"""manifest.json: what a stored model is, the hash of every file, and probes with the answers it must give."""

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from gpuctl_serving.models.errors import ModelProblem

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1

Kind = Literal["embedder", "cross-encoder"]
Origin = Literal["reference", "self-recorded"]
Dtype = Literal["float32", "int8"]


class FileEntry(msgspec.Struct, frozen=True):
    """One file of the model."""

    sha256: str
    bytes: int


class Probe(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input with its right answer: `text`, `tokens`, `vector`, or `query`, `document`, `logit`."""

    text: str | None = None
    tokens: int | None = None
    vector: tuple[float, ...] | None = None
    query: str | None = None
    document: str | None = None
    logit: float | None = None


class Probes(msgspec.Struct, frozen=True):
    """`reference`: by an independent implementation. `self-recorded`: by our FP32 CPU engine at fetch."""

    kind: Kind
    origin: Origin
    items: tuple[Probe, ...]


class Parity(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How near a quantised model is to its FP32 original, measured when it was fetched (parity.py)."""

    kind: Kind
    passed: bool
    #: Texts, or pairs, that were compared.
    texts: int
    #: Share of the ten best that both agree on.
    overlap: float
    #: Embedders: cosine to the original's vectors, and of a text alone to itself in a batch.
    mean_cosine: float | None = None
    least_cosine: float | None = None
    alone: float | None = None
    #: Cross-encoders: rank correlation, and how far a logit moves between alone and in a batch.
    tau: float | None = None
    spread: float | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """The contents of manifest.json, in the order they are written."""

    schema_version: int
    id: str
    revision: str
    kind: Kind
    source: dict[str, str]
    licence: str
    pooling: Literal["mean", "cls"] | None
    normalize: bool
    prefix: str
    dimension: int | None
    max_tokens: int
    #: What decides the vector space: equal generations mean comparable vectors. None for a cross-encoder.
    generation: str | None
    files: dict[str, FileEntry]
    probes: Probes
    #: TEI's `prompt_name` -> text put before an input.
    prompts: dict[str, str] = {}
    #: Left out of the file when it is float32, so that files from before INT8 keep their hash.
    dtype: Dtype = "float32"
    parity: Parity | None = None

    def encode(self) -> bytes:
        """The bytes of manifest.json; equal manifests have equal bytes."""
        fields = msgspec.to_builtins(self)
        if self.dtype == "float32":
            del fields["dtype"], fields["parity"]
        return msgspec.json.format(msgspec.json.encode(fields), indent=0) + b"\n"


def generation(
    model_id: str, revision: str, pooling: str, normalize: bool, prefix: str, dimension: int
) -> str:
    """Identity of a vector space, as architecture.md writes it."""
    norm = "normalized" if normalize else "raw"
    return f"{model_id}@{revision}|{pooling}|{norm}|{prefix}|{dimension}"


def read_manifest(directory: Path) -> Manifest:
    """Reads a stored model's manifest. Raises ModelProblem when there is none or it makes no sense."""
    file = directory / MANIFEST
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=Manifest)
    except OSError as failure:
        raise ModelProblem(
            f"{directory} holds no model", f"{MANIFEST}: {failure.strerror}", "gpuctl models fetch"
        ) from failure
    except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
        raise ModelProblem(f"{file} is damaged", str(wrong), "gpuctl models fetch") from wrong
    if manifest.schema_version != SCHEMA_VERSION:
        raise ModelProblem(
            f"{file} has schema version {manifest.schema_version}", f"this gpuctl reads {SCHEMA_VERSION}"
        )
    return manifest


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(directory: Path, manifest: Manifest) -> list[tuple[str, str]]:
    """Hashes every file of a stored model: (file, what is wrong with it) for each that differs."""
    found = []
    for name, entry in manifest.files.items():
        file = directory / name
        try:
            size = file.stat().st_size
            if size != entry.bytes:
                found.append((name, f"has {size} bytes, should have {entry.bytes}"))
            elif sha256_file(file) != entry.sha256:
                found.append((name, "its contents changed: the hash differs"))
        except OSError as failure:
            found.append((name, failure.strerror or str(failure)))
    return found
