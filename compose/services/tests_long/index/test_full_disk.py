"""A disk that is full again and again while the index changes its type under load, is killed and starts."""

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.index.instances import wait_until
from tests.index.support import BASE

from tests_long.index.attackers import Attack
from tests_long.index.service import IndexProcess
from tests_long.index.small_disk import SmallDisk
from tests_long.index.test_attack import NEVER, PQ_FROM, attacked, check, fill, verified
from tests_long.index.world import World

ROUNDS = 12
#: Room for the index, its log and its snapshots.
_MIB = 160
_SECONDS = 8.0


def leftovers(disk: SmallDisk) -> list[str]:
    """Files that somebody began and nobody will end, while no job runs."""
    index = disk.seen / "index"
    return [str(one.relative_to(index)) for one in index.rglob("*") if one.name.startswith((".", "replica-"))]


def under_way(index: IndexProcess) -> bool:
    """Whether a job or a promotion runs."""
    jobs = index.http.get(f"{BASE}/jobs").json()["jobs"]
    running = any(job["state"] in ("waiting", "running") for job in jobs)
    return running or index.stats()["promotion"]["running"] is not None


def fill_and_empty(
    disk: SmallDisk, attack: Attack, index: IndexProcess, chance: random.Random
) -> Counter[str]:
    """Takes the room away at any moment, up to any byte; what the promotions did meanwhile."""
    until = time.monotonic() + _SECONDS
    phases: Counter[str] = Counter()
    while time.monotonic() < until and not attack.wrong:
        disk.leave(chance.choice((0, 0, 4, 64, 700, 3000)))
        for _ in range(10):
            time.sleep(0.1)
            running = index.stats()["promotion"]["running"]
            phases[running["phase"] if running else "idle"] += 1
    return phases


def test_a_disk_that_is_full_in_the_middle_of_promotions_loses_nothing_and_stops_no_search(
    tmp_path: Path,
) -> None:
    world, chance = World(), random.Random(8)  # noqa: S311  repeatable
    done: Counter[str] = Counter()
    phases: Counter[str] = Counter()
    with SmallDisk(tmp_path / "disk", _MIB) as disk:
        for number in range(ROUNDS):
            with attacked(disk.directory, chance.choice((NEVER, PQ_FROM)), disk.program) as index:
                if number == 0:
                    fill(index, world)
                else:
                    disk.empty()
                    check(index, world, chance)
                with Attack(index.port, world, 2000 + number) as attack:
                    attack.full.set()
                    phases += fill_and_empty(disk, attack, index, chance)
                    if number % 2:
                        attack.killing.set()
                        index.kill()
                assert attack.wrong == [], (number, attack.wrong[:5])
                done += attack.done
                if number % 2:
                    continue
                disk.empty()
                while under_way(index):
                    time.sleep(0.1)
                check(index, world, chance)
                assert leftovers(disk) == []
                said = index.stats()
                assert not said["promotion"]["failed"] and said["durability"]["state"] == "writing", said
        disk.empty()
        with attacked(disk.directory, NEVER, disk.program) as index:
            check(index, world, chance)
            assert verified(index) == [] and leftovers(disk) == []
    print(dict(done), dict(phases))
    assert done["add 507"] and done["snapshot 503"] and phases["filling"]


def refused_start(disk: SmallDisk) -> str:
    """What a start that fails says."""
    log = disk.directory / "service.log"
    before = log.stat().st_size
    index = attacked(disk.directory, NEVER, disk.program)
    wait_until(lambda: index.ended is not None, "the end of a start without room")
    assert index.ended == 1
    return log.read_text()[before:]


@pytest.mark.parametrize("lost", [False, True], ids=["whole", "without its database"])
def test_a_start_on_a_full_disk_says_so_leaves_nothing_and_passes_when_there_is_room(
    tmp_path: Path, lost: bool
) -> None:
    world, chance = World(), random.Random(9)  # noqa: S311  repeatable
    with SmallDisk(tmp_path / "disk", _MIB) as disk:
        with attacked(disk.directory, NEVER, disk.program) as index:
            fill(index, world)
        if lost:
            for file in (disk.seen / "index").glob("index.db*"):
                file.unlink()
        for kib in (0, 8):
            disk.leave(kib)
            assert "is full. Free space on it, then start again" in refused_start(disk)
            disk.empty()
            assert leftovers(disk) == []
        with attacked(disk.directory, NEVER, disk.program) as index:
            check(index, world, chance)
            assert index.stats()["durability"]["recovery"]["did"] == ("rebuilt" if lost else "nothing")
