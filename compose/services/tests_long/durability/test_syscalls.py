"""SIGKILL at every system call by which a snapshot and a compaction change files.

One run counts the calls with strace. Then each is tried: a service starts over a copy of the same directory,
clients write to it, and it dies at the entry of the n-th call of a kind. Before a call is after the one
before it, and of every kind one run more gets to the end: so that is every boundary.
"""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests_long.durability.bench import Bench, Benches
from tests_long.durability.cases import (
    UPKEEP,
    WRITER,
    Calls,
    Case,
    Outcome,
    Prepared,
    beyond,
    counted,
    killed_at,
    planned,
    rotate,
)
from tests_long.durability.tracing import Trace

Keep = Callable[[str, Any], None]
#: Kills in the writer's thread: it writes all the time, so its calls are the same over and over.
_WRITER_KILLS = 60


def _all(benches: Benches, cases: list[Case], run: Callable[[Bench, Case], Outcome]) -> list[Outcome]:
    """Every case; fails with all that went wrong."""
    wrong: list[str] = []

    def one(case: Case) -> Outcome | None:
        try:
            with benches.one() as bench:
                return run(bench, case)
        except Exception as failure:
            wrong.append(f"{case}: {type(failure).__name__}: {failure}")
            return None

    with ThreadPoolExecutor(benches.count) as pool:
        outcomes = [outcome for outcome in pool.map(one, cases) if outcome is not None]
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong[:20])
    return outcomes


def _until_through(
    benches: Benches, rows: list[list[Case]], run: Callable[[Bench, Case], Outcome]
) -> list[Outcome]:
    """One case of each row after the other until it is not died of; all rows must get there."""
    outcomes: list[Outcome] = []
    while rows:
        tried = _all(benches, [row[0] for row in rows], run)
        outcomes += tried
        rows = [row[1:] for row, outcome in zip(rows, tried, strict=True) if outcome.died]
        assert all(rows), "a call came again and again"
    return outcomes


def _told(calls: Calls, outcomes: list[Outcome], began: float) -> dict[str, Any]:
    """The figures of a run."""
    by_thread: dict[str, dict[str, int]] = {}
    for (thread, call), count in sorted(calls.items()):
        by_thread.setdefault(thread, {})[call] = count
    died = [one for one in outcomes if one.died]
    left: Counter[str] = Counter()
    for one in died:
        left.update(one.found.left.keys())
    return {
        "counted calls": by_thread,
        "kills": len(died),
        "kills by call": dict(sorted(Counter(f"{o.case.thread} {o.case.call}" for o in died).items())),
        "ran to the end": len(outcomes) - len(died),
        "starts that found and removed": dict(sorted(left.items())),
        "starts did": dict(sorted(Counter(one.found.did for one in died).items())),
        "changes replayed": sum(one.found.replayed for one in died),
        "seconds": round(time.monotonic() - began),
    }


def _outside(trace: Trace, directory: Path) -> list[str]:
    """Files that were made anywhere but in the index's directory."""
    made = [line for line in trace.output.read_text(errors="replace").splitlines() if "O_CREAT" in line]
    return [line for line in made if f'"{directory}' not in line]


def test_a_kill_at_any_system_call_of_a_snapshot_loses_nothing(
    benches: Benches, prepared: Prepared, figures: Keep
) -> None:
    began = time.monotonic()
    with benches.one() as bench:
        calls, trace = counted(bench, prepared, "snapshot")
        assert _outside(trace, bench.directory / "index") == []

    def run(bench: Bench, case: Case) -> Outcome:
        return killed_at(bench, prepared, case, "snapshot")

    # Everything the snapshot must do on the disk was seen: else the counting is broken.
    for call in ("openat", "pwrite64", "fsync", "close"):
        assert calls[UPKEEP, call] >= 10, calls
    cases = planned(calls, [UPKEEP])
    cases += planned(calls, [WRITER], _WRITER_KILLS)
    outcomes = _all(benches, cases, run)
    outcomes += _until_through(benches, beyond(calls, UPKEEP), run)
    told = _told(calls, outcomes, began)
    figures("index-kills-in-snapshot", told)
    died = [one for one in outcomes if one.died]
    assert len(died) >= 0.95 * len(cases), told
    assert {"making", "removed", "CURRENT"} <= told["starts that found and removed"].keys(), told


def test_a_kill_at_system_calls_of_a_compaction_loses_nothing(
    benches: Benches, prepared: Prepared, tmp_path: Path, figures: Keep
) -> None:
    began = time.monotonic()
    with benches.one() as bench:
        bloated = Prepared(bench.copy(prepared.directory, "bloated"), prepared.model)
        bloated.directory.rename(tmp_path / "bloated")
        bloated = Prepared(tmp_path / "bloated", prepared.model)
        with bench.service(bloated.directory) as service:
            rotate(service)
        calls, trace = counted(bench, bloated, "compact")
        assert _outside(trace, bench.directory / "index") == []

    def run(bench: Bench, case: Case) -> Outcome:
        return killed_at(bench, bloated, case, "compact")

    assert calls[WRITER, "ftruncate"] and calls[WRITER, "fdatasync"], calls
    outcomes = _all(benches, planned(calls, [WRITER], 2 * _WRITER_KILLS), run)
    told = _told(calls, outcomes, began)
    figures("index-kills-in-compaction", told)
    assert all(one.died for one in outcomes), told
