"""SIGKILL at every system call of a restore that changes files: a start serves the old index or the new."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.index.support import BASE

from gpuctl_serving.index.durable.restore import MARK
from tests_long.durability.acknowledged import LISTS, PLAIN, Model, item
from tests_long.durability.bench import Bench, Benches, Service
from tests_long.durability.cases import EVERY, Calls, Case, Prepared, planned
from tests_long.durability.tracing import Trace

#: Thread of the tool: it has one.
_TOOL = "tool"
_KILLED = -9


@dataclass(frozen=True)
class Backup:
    """An archive, and what it holds."""

    archive: Path
    model: Model


@dataclass(frozen=True)
class Outcome:
    """How one went: what was served afterwards, and what the start said about the restore."""

    case: Case
    died: bool
    served: str
    said: tuple[str, ...]


@pytest.fixture(scope="module")
def backup(benches: Benches, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    """Of the prepared index after some changes, as `GET backup` streams it."""
    model = prepared.model.copy()
    archive = tmp_path_factory.mktemp("backup") / "index.tar"
    with benches.one() as bench, bench.service(bench.copy(prepared.directory, "index")) as service:
        for number in range(0, 20, 2):
            _change(service, model, (LISTS, f"n{number}"))
        _change(service, model, (PLAIN, "only in the backup"))
        answer = service.http.get(f"{BASE}/backup")
        assert answer.status_code == 200, answer.text
        archive.write_bytes(answer.content)
    return Backup(archive, model)


def _change(service: Service, model: Model, key: tuple[str, str]) -> None:
    version = model.versions.get(key, 0) + 1
    model.begins(key, version)
    service.post("add", {"namespace": key[0], "items": [item(key[1], version)], "upsert": True})
    model.acknowledged()


def _restore(
    bench: Bench, of: Prepared, backup: Backup, kill: tuple[str, int] | None
) -> tuple[Path, int, Trace]:
    """Runs the tool under strace: the directory, the tool's status, what strace saw."""
    directory, go = bench.copy(of.directory, "index"), bench.directory / "go"
    go.unlink(missing_ok=True)
    arguments = ["restore", "--index-dir", str(directory), "--from", str(backup.archive)]
    pid = bench.fork(tool=arguments, go=str(go))
    with Trace(pid, bench.directory / "trace", kill=kill) as trace:
        go.touch()
        status = bench.gone()
    return directory, status, trace


def _killed_at(bench: Bench, of: Prepared, backup: Backup, case: Case) -> Outcome:
    directory, status, _ = _restore(bench, of, backup, (case.call, case.nth))
    assert status in (0, _KILLED), bench.log()
    interrupted = (directory / MARK).exists()
    left = [one.name for one in directory.iterdir() if one.name.startswith(".")]
    with bench.service(directory) as service:
        told = service.stats()["durability"]["recovery"]
        got = service.post("items/get", {"namespace": PLAIN, "ids": ["only in the backup"]})
        served = "backup" if got["items"] else "old"
        model = (backup.model if got["items"] else of.model).copy()
        # Ids of the other one must be gone.
        model.used |= backup.model.used | of.model.used
        model.compare(service.http)
        assert not interrupted or served == "old", told
        expected = {f"What an interrupted restore left ({one}) was removed." for one in left}
        undone = [one for one in told["said"] if one.startswith("A restore was interrupted")]
        assert len(undone) == interrupted and expected == set(told["said"]) - set(undone), told
        _change(service, model, (PLAIN, "afterwards"))
        assert service.post("snapshot")["state"] == "done"
        assert service.post("verify")["result"]["ok"]
        model.compare(service.http)
    strange = [one.name for one in directory.iterdir() if one.name.startswith(".") or one.name == MARK]
    assert strange == [] and (status == _KILLED or served == "backup"), (strange, served)
    return Outcome(case, status == _KILLED, served, tuple(sorted(one.split(" (")[0] for one in told["said"])))


def _all(benches: Benches, cases: list[Case], run: Callable[[Bench, Case], Outcome]) -> list[Outcome]:
    def one(case: Case) -> Outcome:
        with benches.one() as bench:
            try:
                return run(bench, case)
            except Exception as failure:
                raise AssertionError(f"{case}: {failure}") from failure

    with ThreadPoolExecutor(benches.count) as pool:
        return list(pool.map(one, cases))


def test_a_kill_at_any_system_call_of_a_restore_leaves_the_old_index_or_the_backup(
    benches: Benches, prepared: Prepared, backup: Backup, figures: Callable[[str, Any], None]
) -> None:
    began = time.monotonic()
    with benches.one() as bench:
        _, status, trace = _restore(bench, prepared, backup, None)
        assert status == 0, bench.log()
    calls: Calls = Counter({(_TOOL, call): count for (_, call), count in trace.calls().items()})
    # One more of each kind: that one comes through.
    ends = [Case(_TOOL, call, count + 1) for (_, call), count in sorted(calls.items())]
    outcomes = _all(
        benches, planned(calls, [_TOOL]) + ends, lambda bench, case: _killed_at(bench, prepared, backup, case)
    )
    died = [one for one in outcomes if one.died]
    figures(
        "index-kills-in-restore",
        {
            "counted calls": {call: count for (_, call), count in sorted(calls.items())},
            "kills": len(died),
            "ran to the end": len(outcomes) - len(died),
            "served afterwards": dict(Counter(one.served for one in died)),
            "starts said": dict(sorted(Counter(said for one in died for said in one.said).items())),
            "seconds": round(time.monotonic() - began),
        },
    )
    assert sum(calls.values()) <= EVERY and {one.served for one in died} == {"old", "backup"}
    assert all(one.died for one in outcomes if one.case not in ends)
