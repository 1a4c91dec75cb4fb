"""Indexes as files of a snapshot: a FAISS file each, Flat's items beside it, and one list of all of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gpuctl_serving.index.ann.flat import FlatIndex
from gpuctl_serving.index.ann.ivf import REFINES, IvfIndex
from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.index.ann.near import Truth, VectorIndex
from gpuctl_serving.index.ann.plan import Plan
from gpuctl_serving.index.ann.recall import RecallTable

LIST = "catalog.json"
_FORMAT = 1
#: Stored vectors have length one; a float32's rounding is far below this.
_LENGTH_ERROR = 1e-3
_CHECKED = 65_536


class Saved(msgspec.Struct, forbid_unknown_fields=True):
    """One namespace's index."""

    ns: int
    plan: Plan
    count: int
    trained_with: int = 0
    recall: list[tuple[int, float]] = []
    refine: int = REFINES[0]


class Contents(msgspec.Struct, forbid_unknown_fields=True):
    """What `catalog.json` says."""

    format: int
    dimension: int
    indexes: list[Saved]


def save(directory: Path, dimension: int, indexes: Mapping[int, VectorIndex]) -> list[str]:
    """Writes every index; the names of the files made. Nothing is flushed to disk: the caller does that."""
    names, saved = [], []
    for ns, index in sorted(indexes.items()):
        names += _write(directory, ns, index)
        one = Saved(ns, index.plan, len(index))
        if isinstance(index, IvfIndex):
            one.trained_with, one.recall = index.trained_with, list(index.recall.points)
            one.refine = index.refine
        saved.append(one)
    (directory / LIST).write_bytes(msgspec.json.encode(Contents(_FORMAT, dimension, saved)))
    return [*names, LIST]


def load(directory: Path, dimension: int, truth: Truth) -> dict[int, VectorIndex]:
    """Reads what `save` wrote. Raises ValueError with what is wrong, OSError when it cannot be read.

    FAISS files may only be read after their hash was checked against the snapshot's manifest.
    """
    try:
        contents = msgspec.json.decode((directory / LIST).read_bytes(), type=Contents)
    except msgspec.DecodeError as wrong:
        raise ValueError(f"{LIST} cannot be read: {wrong}") from wrong
    if contents.format != _FORMAT or contents.dimension != dimension:
        raise ValueError(
            f"{LIST} has format {contents.format} and {contents.dimension} dimensions; "
            f"{_FORMAT} and {dimension} are wanted"
        )
    return {one.ns: _read(directory, dimension, one, truth) for one in contents.indexes}


def _write(directory: Path, ns: int, index: VectorIndex) -> list[str]:
    name = f"ns-{ns}.faiss"
    if isinstance(index, IvfIndex):
        index.write(directory / name)
        return [name]
    assert isinstance(index, FlatIndex)  # noqa: S101  there are these two
    items = f"ns-{ns}.items"
    index.write(directory / name)
    (directory / items).write_bytes(index.items().tobytes())
    return [name, items]


def _read(directory: Path, dimension: int, saved: Saved, truth: Truth) -> VectorIndex:
    name = f"ns-{saved.ns}.faiss"
    try:
        return _checked(faiss.read_index(str(directory / name)), directory, dimension, saved, truth)
    except RuntimeError as wrong:
        raise ValueError(f"{name} is not an index: {wrong}") from wrong


def _checked(raw: Any, directory: Path, dimension: int, saved: Saved, truth: Truth) -> VectorIndex:
    name = f"ns-{saved.ns}.faiss"
    if raw.d != dimension or raw.ntotal != saved.count or raw.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ValueError(
            f"{name} has {raw.ntotal} vectors of {raw.d} dimensions; {saved.count} of {dimension} are wanted"
        )
    if saved.plan.kind != "Flat":
        ivf = IvfIndex.of(raw, saved.plan, truth, saved.trained_with, RecallTable(tuple(saved.recall)))
        ivf.refine = saved.refine
        return ivf
    items = np.fromfile(directory / f"ns-{saved.ns}.items", dtype="<i8")
    index = FlatIndex.of(raw, items)
    _check_lengths(name, index)
    return index


def _check_lengths(name: str, index: FlatIndex) -> None:
    rows = index.rows()
    for start in range(0, len(rows), _CHECKED):
        part = rows[start : start + _CHECKED]
        if not np.all(np.abs(np.einsum("ij,ij->i", part, part) - 1.0) < _LENGTH_ERROR):
            raise ValueError(f"{name} holds a vector that does not have length one")
