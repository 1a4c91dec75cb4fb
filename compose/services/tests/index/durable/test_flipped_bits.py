"""One flipped bit, or one cut, in any file: answers are right afterwards, or a start refuses and says why."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuctl_serving.index.maintenance import Maintenance
from gpuctl_serving.kit.errors import LoadFailed
from tests.index import direct
from tests.index.durable import damage

#: Kinds of files of an index, by how their paths match.
KINDS = {
    "the database": "index.db",
    "the write-ahead log": "index.db-wal",
    "a segment of the log": "log/*.log",
    "a snapshot's manifest": "snapshots/0*/manifest.json",
    "a snapshot's database": "snapshots/0*/index.db",
    "a snapshot's index": "snapshots/0*/faiss/*",
    "the name of the newest snapshot": "snapshots/CURRENT",
}
PER_KIND = 12


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A directory as a kill leaves it, with a full write-ahead log, and what it must answer."""
    directory = tmp_path_factory.mktemp("flips")
    core = direct.open_core(directory / "live")
    damage.write(core, 20)
    assert core.live.journal is not None
    core.worker.call(core.live.journal._rotate).result(5)
    Maintenance(core).snapshot(lambda phase, done, of: None)
    core.live.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage.write(core, 20, 20)
    expected = damage.content(core)
    damage.copied(directory / "live", directory / "killed")
    direct.close(core)
    return directory / "killed", expected


def places(kind: str, directory: Path, seed: int) -> Iterator[tuple[Path, int]]:
    """Random bits of random files of a kind."""
    chance = np.random.default_rng(seed)
    files = sorted(path for path in directory.glob(KINDS[kind]) if path.stat().st_size)
    assert files, kind
    for _ in range(PER_KIND):
        path = files[int(chance.integers(len(files)))]
        yield path, int(chance.integers(path.stat().st_size * 8))


def outcome(directory: Path, expected: dict[str, Any], what: str) -> str:
    """right, or refused with a next step; anything else fails."""
    try:
        core = direct.open_core(directory)
    except LoadFailed as refused:
        assert "`" in str(refused) or "Deploy" in str(refused), (what, refused)
        return "refused"
    try:
        assert damage.content(core) == expected, (what, core.place.report)
        damage.write(core, 3, 500)
        after = damage.content(core)
    finally:
        direct.close(core)
    assert damage.content_of(directory) == after, what
    return "right"


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_mended_or_refused_and_never_served(
    kind: str, killed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    directory, expected = killed
    outcomes = []
    for at, (path, place) in enumerate(places(kind, directory, 7)):
        copy = damage.copied(directory, tmp_path / f"c{at}")
        damage.flip(copy / path.relative_to(directory), [place])
        outcomes.append(outcome(copy, expected, f"{path.name} bit {place}"))
    # One file alone is damaged: the others hold everything, so a refusal is the rare exception.
    assert outcomes.count("refused") <= 1, outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_short_is_mended(
    kind: str, killed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    directory, expected = killed
    for at, (path, place) in enumerate(list(places(kind, directory, 11))[: PER_KIND // 2]):
        copy = damage.copied(directory, tmp_path / f"c{at}")
        damage.cut(copy / path.relative_to(directory), place // 8)
        assert outcome(copy, expected, f"{path.name} cut at {place // 8}") == "right"


def test_a_lost_database_and_a_flipped_bit_in_the_log_are_never_served_as_if_whole(
    killed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    directory, expected = killed
    outcomes = []
    for at, (path, place) in enumerate(places("a segment of the log", directory, 13)):
        copy = damage.copied(directory, tmp_path / f"c{at}")
        damage.flip(copy / path.relative_to(directory), [place])
        for file in damage.database_files(copy):
            file.unlink()
        outcomes.append(outcome(copy, expected, f"{path.name} bit {place}"))
    assert "refused" in outcomes
