"""What makes two answers the same answer: everything that changes a vector or a score is in its key."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from gpuctl_serving.engines.protocol import EngineSpec
from gpuctl_serving.models.manifest import Manifest

#: One input as the model reads it, prefix included: a text, or a query and a document.
Parts = tuple[str, ...]

_DIGEST_BYTES = 20
#: Counted up when the meaning of a key or the form of a value changes: old ones are then never found.
_FORM = 2


@dataclass(frozen=True)
class Identity:
    """Who computed an answer, and how. Two that differ in anything never share one."""

    model: str
    revision: str
    #: Over the hashes of every file of the model: a revision that was re-used for other files is another.
    files: str
    device: str
    dtype: str
    pooling: str
    max_tokens: int

    @classmethod
    def of(cls, manifest: Manifest, engine: EngineSpec, max_tokens: int) -> "Identity":
        """The identity of what an engine answers with a model."""
        files = hashlib.sha256()
        for name in sorted(manifest.files):
            files.update(f"{name}\0{manifest.files[name].sha256}\n".encode())
        return cls(
            manifest.id,
            manifest.revision,
            files.hexdigest(),
            engine.device,
            engine.dtype,
            manifest.pooling or "",
            max_tokens,
        )


class KeyMaker:
    """Makes the keys of one identity and one direction of truncation."""

    def __init__(self, identity: Identity, direction: str) -> None:
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for fact in (_FORM, *astuple(identity), direction):
            _add(self._hash, str(fact).encode())

    def key(self, parts: Parts) -> bytes:
        """20 bytes that no other input, model or setting has."""
        digest = self._hash.copy()
        for part in parts:
            _add(digest, part.encode("utf-8", "surrogatepass"))
        return digest.digest()

    def keys(self, inputs: Sequence[Parts]) -> list[bytes]:
        """The key of each input, in their order."""
        return [self.key(parts) for parts in inputs]


def _add(digest: Any, field: bytes) -> None:
    # With its length before it, no two sequences of fields have the same bytes.
    digest.update(len(field).to_bytes(8, "little"))
    digest.update(field)
