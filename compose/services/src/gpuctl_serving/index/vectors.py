"""Vectors of requests: decoded, checked, and scaled to length one, so that inner product is cosine."""

import base64
import binascii
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.kit.errors import ServiceError, invalid

Vectors = NDArray[np.float32]


def from_base64(text: str, name: str) -> Vectors:
    """Little-endian float32 in base64, as one vector."""
    try:
        raw = _decoded(text)
    except (binascii.Error, ValueError) as wrong:
        raise invalid(f"{name} is not base64: {wrong}. Encode little-endian float32 values.", name) from wrong
    if not raw or len(raw) % 4:
        raise invalid(
            f"{name} holds {len(raw)} bytes, which is not a whole number of float32 values (4 bytes each).",
            name,
        )
    return np.frombuffer(raw, dtype="<f4")


def _decoded(text: str) -> bytes:
    try:
        return msgspec.convert(text, bytes)
    except msgspec.ValidationError:
        # Three times as slow, but it says what is wrong.
        return base64.b64decode(text, validate=True)


def rows_from_base64(texts: Sequence[object]) -> Vectors | None:
    """Texts that are vectors of one length, as rows; None when there is anything to say about one of them."""
    try:
        raw = msgspec.convert(texts, list[bytes])
    except msgspec.ValidationError:
        return None
    sizes = set(map(len, raw))
    size = sizes.pop()
    if sizes or not size or size % 4:
        return None
    return np.frombuffer(b"".join(raw), dtype="<f4").reshape(len(raw), -1)


def from_numbers(values: Sequence[float], name: str) -> Vectors:
    """A JSON array of numbers, as one vector."""
    if not values:
        raise invalid(f"{name} is empty. Send one number for each dimension.", name)
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float64).astype(np.float32)


def unit(vector: Vectors, name: str) -> Vectors:
    """The vector scaled to length one. 422 when it has no direction."""
    wide = vector.astype(np.float64)
    if not np.isfinite(wide).all():
        raise invalid(f"{name} holds a value that is not a finite float32 (NaN or infinity).", name)
    length = float(np.sqrt(np.dot(wide, wide)))
    if length == 0.0:
        raise invalid(f"{name} is all zeros: it has no direction, so nothing is near it.", name)
    return (wide / length).astype(np.float32)


def units(rows: Vectors, name: str) -> Vectors:
    """Rows scaled to length one. 422 that names the row without a direction."""
    wide = rows.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1))
    # NaN and infinity make the length one of them too.
    if not (np.isfinite(lengths).all() and lengths.all()):
        return np.stack([unit(row, f"{name}[{at}]") for at, row in enumerate(rows)])
    scaled: Vectors = (wide / lengths[:, None]).astype(np.float32)
    return scaled


def as_base64(vector: Vectors) -> str:
    """Little-endian float32 in base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def mismatch(name: str, got: int, want: int, generation: str) -> ServiceError:
    """422: a vector of another model, most likely."""
    return invalid(
        f"{name} has {got} dimensions, but this index holds {want} (generation {generation!r}). "
        "Embed with the model the index was built for; `GET /api/v1/vector-store/stats` names it.",
        name,
    )


def as_matrix(blobs: Sequence[bytes], dimension: int) -> Vectors:
    """Stored vectors as rows. Raises ValueError when one cannot be what was stored."""
    raw = b"".join(blobs)
    if any(len(blob) != dimension * 4 for blob in blobs):
        raise ValueError(f"a stored vector does not have {dimension} dimensions")
    rows = np.frombuffer(raw, dtype="<f4").reshape(len(blobs), dimension)
    lengths = np.einsum("ij,ij->i", rows, rows)
    if not np.all(np.abs(lengths - 1.0) < 1e-3):
        raise ValueError("a stored vector does not have length one")
    return rows
