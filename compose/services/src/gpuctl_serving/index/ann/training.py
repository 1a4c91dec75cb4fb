"""Training and filling inverted lists aside, in slices: a service can stop it and is not starved by it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuctl_serving.index.ann.flat import FlatIndex
from gpuctl_serving.index.ann.ivf import REFINES, IvfIndex
from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.index.ann.near import Items, Truth
from gpuctl_serving.index.ann.plan import (
    HELD_OUT,
    POINTS_PER_CENTROID,
    PQ_CENTROIDS,
    Plan,
    TooFew,
    gpu_problems,
    shortage,
)
from gpuctl_serving.index.ann.recall import Nearest, RecallTable
from gpuctl_serving.index.vectors import Vectors

#: Points a centroid is trained with, at most; more cost time and change little.
_MOST_POINTS = 64
_ROUNDS = 10
_PQ_ROUNDS = 16
#: Rows between two looks at whether to stop: some tens of milliseconds.
_SLICE = 1024
#: Rows copied at once to sum up clusters.
_TOGETHER = 16_384
#: With fewer than this to measure with, vectors that were trained with have to do.
_FEWEST_HELD_OUT = 50
#: What codes should allow when every list is probed.
_ENOUGH_RECALL = 0.985
_SEED = 20


class Abandoned(Exception):
    """The work was stopped from outside; nothing of it is in use."""


@dataclass(frozen=True)
class Pace:
    """Asked between slices of work."""

    stop: Callable[[], bool]
    #: Told what is being done and how much of it is: (phase, done, of).
    tell: Callable[[str, int, int], None] = lambda phase, done, of: None

    def pause(self) -> None:
        """Raises Abandoned when somebody wants it to end."""
        if self.stop():
            raise Abandoned


@dataclass(frozen=True)
class Sample:
    """What an index is trained with, and what it is measured with."""

    training: Vectors
    held_items: Items
    held: Vectors


def build(truth: Truth, ns: int, plan: Plan, count: int, dimension: int, pace: Pace) -> IvfIndex:
    """A trained index of everything in a namespace, with its recall measured. Raises TooFew or Abandoned.

    Memory on top of the new index: the sample, at most 64 vectors for each list.
    """
    if problems := gpu_problems(plan, dimension):
        raise ValueError(f"{plan.kind} of this shape could never move to a GPU: {'; '.join(problems)}")
    # Threads of FAISS's calls from this thread only.
    faiss.omp_set_num_threads(1)
    sample = take_sample(truth, ns, plan, count, pace)
    if refusal := shortage(plan, len(sample.training)):
        raise TooFew(refusal)
    index = IvfIndex(trained(plan, dimension, sample.training, pace), plan, truth, len(sample.training))
    nearest = Nearest(sample.held_items, sample.held)
    done = 0
    for items, vectors in truth.every(ns):
        for start in range(0, len(items), _SLICE):
            part = slice(start, start + _SLICE)
            index.put(index.prepare(items[part], vectors[part]))
            nearest.see(items[part], vectors[part])
            pace.pause()
        done += len(items)
        pace.tell("filling", done, max(count, done))
    pace.tell("measuring", 0, HELD_OUT)
    index.recall = _measured(index, nearest, pace)
    return index


def _measured(index: IvfIndex, nearest: Nearest, pace: Pace) -> RecallTable:
    """Recall by lists, with as many candidates as it takes for codes not to be what limits it."""
    for refine in REFINES if index.plan.kind == "IVFPQ" else REFINES[:1]:
        index.refine = refine
        found = nearest.measure(
            lambda queries, nprobe: _sliced(index, queries, nprobe, pace), index.plan.nlist
        )
        if found.points[-1][1] >= _ENOUGH_RECALL:
            break
    return found


def build_flat(truth: Truth, ns: int, dimension: int, pace: Pace) -> FlatIndex:
    """An exact index of everything in a namespace. Raises Abandoned."""
    index, done = FlatIndex(dimension), 0
    for items, vectors in truth.every(ns):
        index.put(index.prepare(items, vectors))
        done += len(items)
        pace.tell("filling", done, done)
        pace.pause()
    return index


def take_sample(truth: Truth, ns: int, plan: Plan, count: int, pace: Pace) -> Sample:
    """Vectors at random: most to train with, a few to measure with; none is both."""
    most = max(_MOST_POINTS * plan.nlist, plan.needs)
    if plan.kind == "IVFPQ":
        most = max(most, _MOST_POINTS * PQ_CENTROIDS)
    random = np.random.default_rng(_SEED)
    # A small index cannot spare many for the measurement: it has to be able to train.
    spare = min(HELD_OUT, max(0, count - plan.needs))
    wanted = min(max(count, 1), most + spare)
    # Filled in place: a million vectors are trained with 400 MB of them, and copies would be as much again.
    items, rows, seen = np.empty(wanted, np.int64), np.empty((0, 1), np.float32), 0
    for named, vectors in truth.every(ns):
        if not len(rows):
            rows = np.empty((wanted, vectors.shape[1]), np.float32)
        places = _places(random, seen, len(named), wanted)
        kept = places < wanted
        # Where two want one place the later one has it, as one after the other would.
        items[places[kept]], rows[places[kept]] = named[kept], vectors[kept]
        seen += len(named)
        pace.tell("sampling", seen, max(count, seen))
        pace.pause()
    items, rows = items[:seen], rows[:seen]
    spare = min(spare, max(0, len(rows) - plan.needs))
    train = len(rows) - spare
    # Any of them may be held out, so some change places with the last.
    picked = random.choice(len(rows), spare, replace=False) if spare else np.empty(0, np.int64)
    _swap(items, rows, picked[picked < train], np.setdiff1d(np.arange(train, len(rows)), picked))
    held = slice(train, None) if spare >= _FEWEST_HELD_OUT else slice(0, min(train, HELD_OUT))
    return Sample(rows[:train], items[held], rows[held].copy())


def _places(random: np.random.Generator, seen: int, count: int, size: int) -> Items:
    """Where the next rows go in a sample of `size` (Vitter's algorithm R); `size` or more means nowhere."""
    at = np.arange(seen, seen + count)
    return np.where(at < size, at, random.integers(0, at + 1))


def _swap(items: Items, rows: Vectors, some: Items, others: Items) -> None:
    items[some], items[others] = items[others], items[some]
    rows[some], rows[others] = rows[others], rows[some]


def trained(plan: Plan, dimension: int, sample: Vectors, pace: Pace) -> Any:
    """An empty FAISS index with its centroids and codes."""
    centroids = cluster(sample, plan.nlist, _ROUNDS, pace, "training lists", spherical=True)
    quantizer = faiss.IndexFlatIP(dimension)
    quantizer.add(centroids)
    metric = faiss.METRIC_INNER_PRODUCT
    index: Any
    if plan.kind == "IVFFlat":
        index = faiss.IndexIVFFlat(quantizer, dimension, plan.nlist, metric)
    else:
        index = faiss.IndexIVFPQ(quantizer, dimension, plan.nlist, plan.m, 8, metric)
        _train_codes(index, centroids, sample, pace)
    index.is_trained = True
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    return index


def _train_codes(index: Any, centroids: Vectors, sample: Vectors, pace: Pace) -> None:
    """Each part of a vector's rest after its centroid gets 256 codes of its own."""
    few = min(len(sample), _MOST_POINTS * PQ_CENTROIDS)
    sample = sample[np.random.default_rng(_SEED).choice(len(sample), few, replace=False)]
    residuals = sample - centroids[_nearest(sample, centroids, pace)]
    width = index.d // index.pq.M
    tables = []
    for part in range(index.pq.M):
        pace.tell("training codes", part, index.pq.M)
        columns = np.ascontiguousarray(residuals[:, part * width : (part + 1) * width])
        tables.append(cluster(columns, PQ_CENTROIDS, _PQ_ROUNDS, pace, "", spherical=False))
    faiss.copy_array_to_vector(np.concatenate(tables).ravel(), index.pq.centroids)


def cluster(points: Vectors, count: int, rounds: int, pace: Pace, phase: str, *, spherical: bool) -> Vectors:
    """k-means in slices. Spherical: centroids of length one and nearness by inner product."""
    if len(points) < POINTS_PER_CENTROID * count:
        raise TooFew(f"{count} centroids need {POINTS_PER_CENTROID * count} vectors; there are {len(points)}")
    random = np.random.default_rng(_SEED)
    centroids = points[random.choice(len(points), count, replace=False)].copy()
    for at in range(rounds):
        if phase:
            pace.tell(phase, at, rounds)
        owner = _nearest(points, centroids, pace, by_distance=not spherical)
        centroids = _means(points, owner, centroids, random)
        if spherical:
            lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
            centroids = np.where(lengths > 0, centroids / np.maximum(lengths, 1e-12), points[:count])
    return np.ascontiguousarray(centroids, dtype=np.float32)


def _nearest(points: Vectors, centroids: Vectors, pace: Pace, *, by_distance: bool = False) -> Items:
    metric = faiss.METRIC_L2 if by_distance else faiss.METRIC_INNER_PRODUCT
    found = np.empty(len(points), dtype=np.int64)
    # The same work in a slice whatever the width of the points.
    step = max(_SLICE, int(_SLICE * 512 * 384 / (len(centroids) * points.shape[1])))
    for start in range(0, len(points), step):
        part = np.ascontiguousarray(points[start : start + step])
        found[start : start + step] = faiss.knn(part, centroids, 1, metric=metric)[1][:, 0]
        pace.pause()
    return found


def _means(points: Vectors, owner: Items, before: Vectors, random: np.random.Generator) -> Vectors:
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=len(before))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    means = before.copy()
    filled = np.flatnonzero(counts)
    sums = np.zeros_like(before)
    for start in range(0, len(points), _TOGETHER):
        # A copy of all points in their clusters' order would be as large as the sample.
        mine = order[start : start + _TOGETHER]
        owners, first = np.unique(owner[mine], return_index=True)
        sums[owners] += np.add.reduceat(points[mine], first, axis=0)
    means[filled] = sums[filled] / counts[filled, None]
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        # A centroid nobody is near to splits a large cluster: it moves to one of its points.
        weights = counts / counts.sum()
        for one, large in zip(empty, random.choice(len(before), len(empty), p=weights), strict=True):
            means[one] = points[order[starts[large] + random.integers(counts[large])]]
    return means


def _sliced(index: IvfIndex, queries: Vectors, nprobe: int, pace: Pace) -> Items:
    parts = []
    for start in range(0, len(queries), 8):
        parts.append(index.measured(queries[start : start + 8], nprobe))
        pace.pause()
    return np.concatenate(parts)
