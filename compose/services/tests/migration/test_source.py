"""A FAISS file is read whole and unchanged, whatever its type; what is not understood is named."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from gpuctl_serving.migration.faiss_source import FaissSource
from gpuctl_serving.migration.problems import MigrationProblem

DIMENSION = 16


def vectors(count: int) -> Any:
    return np.random.default_rng(1).standard_normal((count, DIMENSION)).astype(np.float32)


def written(path: Path, index: Any) -> FaissSource:
    faiss.write_index(index, str(path))
    return FaissSource(path)


def everything(source: FaissSource) -> dict[int, Any]:
    return {
        label: vector
        for labels, found in source.chunks()
        for label, vector in zip(labels.tolist(), found, strict=True)
    }


def flat(rows: Any) -> Any:
    index = faiss.IndexFlatL2(DIMENSION)
    index.add(rows)
    return index


def inverted(rows: Any) -> Any:
    index = faiss.index_factory(DIMENSION, "IVF4,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(rows)
    index.add(rows)
    return index


def hnsw(rows: Any) -> Any:
    index = faiss.IndexHNSWFlat(DIMENSION, 8)
    index.add(rows)
    return index


@pytest.mark.parametrize(
    ("make", "name", "metric"),
    [(flat, "IndexFlatL2", "l2"), (inverted, "IndexIVFFlat", "inner-product"), (hnsw, "IndexFlatL2", "l2")],
)
def test_every_vector_comes_back_as_it_was_added(tmp_path: Path, make: Any, name: str, metric: str) -> None:
    rows = vectors(400)
    source = written(tmp_path / "index.faiss", make(rows))
    assert (source.kind.metric, source.kind.count, source.kind.lossy) == (metric, 400, False)
    found = everything(source)
    assert sorted(found) == list(range(400))
    assert all(np.array_equal(found[row], rows[row]) for row in range(400))


def test_labels_of_an_id_map_are_the_callers_ids(tmp_path: Path) -> None:
    rows, index = vectors(20), faiss.IndexIDMap2(faiss.IndexFlatIP(DIMENSION))
    index.add_with_ids(rows, np.arange(100, 120, dtype=np.int64))
    source = written(tmp_path / "mapped.faiss", index)
    found = everything(source)
    assert sorted(found) == list(range(100, 120))
    assert np.array_equal(found[107], rows[7])
    assert source.search(rows[3:4] * 10, 1).tolist()[0][0] in range(100, 120)


def test_a_compressed_index_gives_approximations_and_says_so(tmp_path: Path) -> None:
    rows = vectors(1200)
    index = faiss.index_factory(DIMENSION, "IVF4,PQ4x4")
    index.train(rows)
    index.add(rows)
    source = written(tmp_path / "pq.faiss", index)
    assert source.kind.lossy
    found = everything(source)
    errors = [float(np.linalg.norm(found[row] - rows[row])) for row in range(1200)]
    assert 0 < np.mean(errors) < np.mean(np.linalg.norm(rows, axis=1))


def test_an_index_of_another_type_is_refused_by_its_name(tmp_path: Path) -> None:
    index = faiss.IndexLSH(DIMENSION, 32)
    index.add(vectors(5))
    with pytest.raises(MigrationProblem, match="IndexLSH"):
        written(tmp_path / "lsh.faiss", index)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty"])
def test_a_file_that_is_no_index_is_refused_with_what_faiss_says(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "index.faiss"
    faiss.write_index(flat(vectors(50)), str(path))
    whole = path.read_bytes()
    path.write_bytes({"garbage": b"not an index at all", "truncated": whole[:-100], "empty": b""}[damage])
    with pytest.raises(MigrationProblem, match="cannot be read as a FAISS index"):
        FaissSource(path)
