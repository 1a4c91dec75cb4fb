"""Trouble while an index changes its type: no room, rot, cut files. Nothing wrong is served."""

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gpuctl_serving.index.ann.plan import FLAT, Plan, Policy
from gpuctl_serving.index.ann.promotion import Promoter
from gpuctl_serving.index.ann.training import build
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.durable.seals import checksum
from gpuctl_serving.index.durable.snapshot import SnapshotFailed
from gpuctl_serving.index.maintenance import Maintenance
from gpuctl_serving.index.schema import DATABASE
from gpuctl_serving.index.vectors import Vectors
from gpuctl_serving.kit.errors import ServiceError
from tests.index import direct
from tests.index.ann.support import DictTruth, clustered, unhurried
from tests.index.durable import damage
from tests.index.durable.test_full_disks import files_end_at
from tests.index.instances import wait_until
from tests.index.support import in_base64, index

D = 16
COUNT = 1200
PLAN = Plan("IVFFlat", 16)


def catalog_of(kinds: dict[int, Plan]) -> tuple[Catalog, DictTruth]:
    """A catalog of one namespace, of the type asked for."""
    truth = DictTruth(D)
    catalog = Catalog(D, truth)
    catalog.apply(truth.put(range(1, COUNT + 1), clustered(COUNT, D)))
    for ns, plan in kinds.items():
        if plan != FLAT:
            catalog.begin_rebuild(ns)
            catalog.swap(ns, build(truth, ns, plan, COUNT, D, unhurried()))
    return catalog, truth


def opened(directory: Path, wish: str = "IVFFlat") -> Core:
    """A core whose namespace is to have inverted lists."""
    nlist = PLAN.nlist if wish != "Flat" else 0
    return direct.open_core(directory, dimension=D, index_type=wish, index_nlist=nlist)


def filled(core: Core) -> Vectors:
    """Its vectors; item n has the id n."""
    rows = clustered(COUNT, D)
    direct.add(core, [direct.item(f"n{at}", row.tolist()) for at, row in enumerate(rows)])
    return rows


def kind(core: Core) -> str:
    assert core.live.catalog is not None
    return core.live.catalog.indexes[1].plan.kind


def everything_is_found(core: Core, rows: Vectors) -> bool:
    return all(direct.search(core, row.tolist(), 1)[0] == (f"n{at}", 1.0) for at, row in enumerate(rows))


@pytest.fixture(params=[FLAT, PLAN], ids=lambda plan: plan.kind)
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Catalog, int]]:
    catalog, _ = catalog_of({1: request.param})
    catalog.save(tmp_path)
    yield catalog, max(path.stat().st_size for path in tmp_path.iterdir())


@pytest.mark.parametrize("short", [40, 4000, 40_000])
def test_a_saved_index_is_whole_or_its_writing_fails(
    whole: tuple[Catalog, int], tmp_path: Path, short: int
) -> None:
    catalog, size = whole
    (tmp_path / "again").mkdir()
    with files_end_at(size - short), pytest.raises(OSError) as refused:
        catalog.save(tmp_path / "again")
    assert refused.value.errno == errno.EFBIG


def test_a_snapshot_whose_index_finds_no_room_says_so_and_the_promotion_stands(tmp_path: Path) -> None:
    core = opened(tmp_path)
    rows = filled(core)
    wait_until(lambda: kind(core) == "IVFFlat", "the promotion")
    keeper = Maintenance(core)
    with files_end_at(60_000), pytest.raises(SnapshotFailed, match=r"File too large .* Free space"):
        keeper.snapshot(lambda phase, done, of: None)
    assert list((tmp_path / manifests.FOLDER).iterdir()) == []
    assert everything_is_found(core, rows)
    assert keeper.snapshot(lambda phase, done, of: None)["items"] == COUNT
    direct.close(core)
    core = opened(tmp_path)
    # From the file: nothing is trained again.
    assert kind(core) == "IVFFlat" and everything_is_found(core, rows)
    direct.close(core)


def test_a_promotion_needs_no_room_and_what_is_refused_meanwhile_is_not_in_the_new_index(
    tmp_path: Path,
) -> None:
    core = opened(tmp_path, "Flat")
    rows = filled(core)
    with files_end_at(10_000):
        with pytest.raises(ServiceError, match="disk of the index is full"):
            direct.add(core, [direct.item("refused", [1.0] * D)])
        core.promoter.policy = Policy("IVFFlat", PLAN.nlist)
        wait_until(lambda: kind(core) == "IVFFlat", "the promotion")
        assert everything_is_found(core, rows)
    assert core.live.catalog is not None and len(core.live.catalog) == COUNT
    direct.add(core, [direct.item("later", [1.0] * D)])
    assert direct.search(core, [1.0] * D, 1) == [("later", 1.0)]
    direct.close(core)


def rot(directory: Path, item: int) -> None:
    """Turns the sign of one number of a stored vector: its length and its row's shape stay right."""
    connection = sqlite3.connect(directory / DATABASE)
    (blob,) = connection.execute("SELECT vector FROM vectors WHERE item = ?", (item,)).fetchone()
    vector = np.frombuffer(blob, dtype="<f4").copy()
    vector[np.argmax(np.abs(vector))] *= -1
    with connection:
        connection.execute("UPDATE vectors SET vector = ? WHERE item = ?", (vector.tobytes(), item))
    connection.close()


def test_a_vector_that_rotted_on_disk_stops_the_promotion_and_is_mended_by_a_start(tmp_path: Path) -> None:
    core = opened(tmp_path, "Flat")
    rows = filled(core)
    rot(tmp_path, 700)
    core.promoter.policy = Policy("IVFFlat", PLAN.nlist)
    wait_until(lambda: core.promoter.counts["failed"] == 1, "the refusal")
    assert kind(core) == "Flat" and everything_is_found(core, rows)
    assert core.live.catalog is not None
    said = core.promoter.reason(core.live.catalog, 1, core.live.catalog.indexes[1])
    assert said and "item 700" in said.lower() and "damaged on disk" in said and "next try" in said
    direct.close(core)
    core = opened(tmp_path)
    assert core.place.report.did == "rebuilt"
    wait_until(lambda: kind(core) == "IVFFlat", "the promotion")
    assert everything_is_found(core, rows)
    direct.close(core)


def test_codes_are_never_scored_with_a_vector_that_rotted_on_disk(tmp_path: Path) -> None:
    rows = clustered(10_100, D)
    shape = {"GPUCTL_INDEX_TYPE": "IVFPQ", "GPUCTL_INDEX_NLIST": "16", "GPUCTL_INDEX_PQ_M": "8"}
    with index(tmp_path, "open", **shape) as made:
        items = [{"id": at, "vectorBase64": in_base64(row)} for at, row in enumerate(rows)]
        for start in range(0, len(items), 2000):
            made.add(*items[start : start + 2000])
        wait_until(lambda: made.stats()["indexType"] == "IVFPQ", "the promotion", 60)
        asked = {"vector": rows[41].tolist(), "k": 1, "include": []}
        assert made.post("search", asked)["results"][0] == [{"id": 41, "score": 1.0}]
        rot(tmp_path, 42)
        status, message = made.refused("search", asked)
        assert status == 503 and "damaged on disk" in message and "Restart" in message
        # Whoever does not come across it is answered.
        far = rows[np.argmin(rows @ rows[41])]
        assert made.post("search", {"vector": far.tolist(), "k": 1, "include": []})["results"][0]


def test_whatever_a_promotion_fails_with_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, _ = catalog_of({})
    promoter = Promoter(lambda: catalog, Policy("IVFFlat", PLAN.nlist))
    monkeypatch.setattr("gpuctl_serving.index.ann.promotion._LOOK", 0.01)
    monkeypatch.setattr("gpuctl_serving.index.ann.promotion._PAUSE", 0.05)
    failures = [AssertionError("not what a library should raise"), TypeError("nor this")]
    begin = catalog.begin_rebuild

    def unlucky(ns: int) -> None:
        if failures:
            raise failures.pop()
        begin(ns)

    monkeypatch.setattr(catalog, "begin_rebuild", unlucky)
    promoter.start()
    try:
        wait_until(lambda: promoter.counts["done"] == 1, "the third try")
        assert promoter.counts["failed"] == 2 and promoter.failure is None
    finally:
        promoter.stop()


def test_the_failure_of_one_namespace_is_told_as_its_own_until_it_is_over() -> None:
    truth = DictTruth(D)
    catalog = Catalog(D, truth)
    catalog.apply(truth.put(range(1, COUNT + 1), clustered(COUNT, D)))
    catalog.apply(
        [
            type(change)(change.item, 2, change.vector)
            for change in truth.put(range(5001, 5001 + COUNT), clustered(COUNT, D, seed=3))
        ]
    )
    promoter = Promoter(lambda: catalog, Policy("IVFFlat", PLAN.nlist))
    begin = catalog.begin_rebuild

    def fail_for_one(ns: int) -> None:
        if ns == 1:
            raise OSError("the first has no luck")
        begin(ns)

    catalog.begin_rebuild = fail_for_one  # type: ignore[method-assign]
    promoter.look()
    assert promoter.counts == {"done": 1, "failed": 1, "abandoned": 0}
    assert "no luck" in (promoter.reason(catalog, 1, catalog.indexes[1]) or "")
    assert promoter.reason(catalog, 2, catalog.indexes[2]) is None
    assert "no luck" in str(promoter.facts()["failure"])


def test_a_promotion_is_in_the_next_snapshot_by_the_clock_though_nothing_was_written(tmp_path: Path) -> None:
    core = opened(tmp_path, "Flat")
    filled(core)
    keeper = Maintenance(core)
    keeper.snapshot(lambda phase, done, of: None)
    core.promoter.policy = Policy("IVFFlat", PLAN.nlist)
    wait_until(lambda: kind(core) == "IVFFlat", "the promotion")
    assert not keeper._due()
    keeper._known -= core.settings.index_snapshot_seconds
    assert keeper._due()
    keeper.snapshot(lambda phase, done, of: None)
    keeper._known -= core.settings.index_snapshot_seconds
    assert not keeper._due()
    direct.close(core)


@pytest.mark.parametrize("how", ["cut", "flipped", "gone", "nonsense in the list", "another manifest"])
def test_a_start_says_which_saved_index_it_could_not_begin_from(tmp_path: Path, how: str) -> None:
    core = opened(tmp_path)
    rows = filled(core)
    wait_until(lambda: kind(core) == "IVFFlat", "the promotion")
    made = Maintenance(core).snapshot(lambda phase, done, of: None)
    direct.close(core)
    folder = tmp_path / manifests.FOLDER / str(made["snapshot"])
    file = folder / "faiss" / "ns-1.faiss"
    match how:
        case "cut":
            damage.cut(file, file.stat().st_size - 7)
        case "flipped":
            damage.flip(file, [file.stat().st_size * 4])
        case "gone":
            file.unlink()
        case "nonsense in the list":
            (folder / "faiss" / "catalog.json").write_text("[]")
        case _:
            document = b'{"manifest":{"format":1,"line":7},"checksum":%d}'
            inner = checksum(b'{"format":1,"line":7}')
            (folder / manifests.MANIFEST).write_bytes(document % inner)
    core = opened(tmp_path)
    assert any(folder.name in line for line in core.place.report.said), core.place.report
    wait_until(lambda: kind(core) == "IVFFlat", "the promotion")
    assert everything_is_found(core, rows)
    direct.close(core)
