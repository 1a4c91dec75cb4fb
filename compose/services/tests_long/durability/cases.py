"""Which kills there are to try, and one of them: a service that dies at the n-th call of a kind."""

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from tests.index.support import BASE

from tests_long.durability import aftermath
from tests_long.durability.acknowledged import PLAIN, Model, Writer, vector_of
from tests_long.durability.bench import Bench, Service
from tests_long.durability.tracing import STRUCTURAL, Trace, thread_of

UPKEEP, WRITER = "index-upkeep", "index-writer"
#: Up to so many calls every one is tried; of more, all that change directories, and of the others a sample.
EVERY = 400
#: Calls that a run may make beyond those of the run that counted: clients write at their own pace.
_MORE = 60
_DIES = 30.0
_FAT = 300_000


@dataclass(frozen=True)
class Prepared:
    """A directory that is only ever copied, and what it holds."""

    directory: Path
    model: Model


@dataclass(frozen=True)
class Case:
    """Dies at the entry of a thread's n-th call of a kind since the work began."""

    thread: str
    call: str
    nth: int


@dataclass(frozen=True)
class Outcome:
    """How one went."""

    case: Case
    #: False: the work made fewer such calls, and was finished.
    died: bool
    found: aftermath.Found


Calls = Counter[tuple[str, str]]


def counted(bench: Bench, of: Prepared, route: str) -> tuple[Calls, Trace]:
    """How often each thread makes each call between the request and its answer."""
    directory = bench.copy(of.directory, "index")
    with bench.service(directory) as service, Writer(service.address, of.model.copy(), 0):
        names = {thread_of(service.pid, name): name for name in (UPKEEP, WRITER)}
        with Trace(service.pid, bench.directory / "trace", threads=True) as trace:
            service.post(route)
    calls: Calls = Counter()
    for (thread, call), count in trace.calls().items():
        calls[names.get(thread, "others"), call] += count
    return calls, trace


def planned(calls: Calls, threads: Iterable[str], most: int = EVERY) -> list[Case]:
    """Every call of these threads; where there are more than `most`, all structural ones and a sample.

    The sample has as much of every kind, spread evenly from its first call to its last.
    """
    every = [
        Case(thread, call, nth)
        for (thread, call), count in sorted(calls.items())
        if thread in threads
        for nth in range(1, count + 1)
    ]
    if len(every) <= most:
        return every
    taken = [case for case in every if case.call in STRUCTURAL]
    kinds: dict[tuple[str, str], list[Case]] = {}
    for case in every:
        if case.call not in STRUCTURAL:
            kinds.setdefault((case.thread, case.call), []).append(case)
    # The rarest first: what one kind leaves of its share goes to the others.
    for at, of in enumerate(sorted(kinds.values(), key=len)):
        share = max(1, (most - len(taken)) // (len(kinds) - at))
        taken += [of[place] for place in sorted({int(x) for x in np.linspace(0, len(of) - 1, share)})]
    return taken


def beyond(calls: Calls, thread: str) -> list[list[Case]]:
    """For every kind of call, what to try after the last one that was counted, until one comes through."""
    return [
        [Case(thread, call, nth) for nth in range(count + 1, count + _MORE)]
        for (of, call), count in sorted(calls.items())
        if of == thread
    ]


def killed_at(bench: Bench, of: Prepared, case: Case, route: str) -> Outcome:
    """Kills there, starts again, compares."""
    directory = bench.copy(of.directory, "index")
    model = of.model.copy()
    with bench.service(directory) as service:
        died = _work(bench, service, model, case, route)
    found = aftermath.examine(bench, directory, model)
    shutil.rmtree(directory)
    return Outcome(case, died, found)


def _work(bench: Bench, service: Service, model: Model, case: Case, route: str) -> bool:
    """Whether the process died of it."""
    thread = thread_of(service.pid, case.thread)
    kill = (case.call, case.nth)
    with (
        Writer(service.address, model, case.nth),
        Trace(thread, bench.directory / "trace", kill=kill) as trace,
    ):
        try:
            answer = service.http.post(f"{BASE}/{route}", json={})
        except httpx.TransportError:
            assert trace.over(_DIES)
        else:
            assert answer.status_code == 200, answer.text
            # The writer's thread goes on, and comes to its call in the end.
            trace.over(_DIES if case.thread == WRITER else 0.05)
        died = trace.over(0)
        if died:
            assert f" {case.call}(" in f" {trace.last()}", trace.last()
        return died


def rotate(service: Service) -> None:
    """More than a segment of the log (1 MiB) of texts that are deleted again."""
    names = [f"fat{number}" for number in range(4)]
    for name in names:
        fat = {"id": name, "text": "x" * _FAT, "vector": vector_of(name, 0).tolist()}
        service.post("add", {"namespace": PLAIN, "items": [fat]})
    service.post("delete", {"namespace": PLAIN, "ids": names})
