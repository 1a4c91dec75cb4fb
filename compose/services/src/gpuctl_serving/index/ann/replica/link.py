"""The front's side of the replica's process: starts it, asks it from one thread, notices its faults."""

import os
import queue
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

import gpuctl_serving
from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.ann.replica.records import (
    Closed,
    Done,
    Drop,
    Failed,
    Found,
    Ready,
    Reply,
    Search,
    Start,
    Wire,
)
from gpuctl_serving.index.ann.replica.records import Request as Record
from gpuctl_serving.index.ann.replica.told import Reason
from gpuctl_serving.index.vectors import Vectors
from gpuctl_serving.kit.logs import configured

#: Where this package is.
CODE = Path(gpuctl_serving.__file__).parents[1]
MODULE = "gpuctl_serving.index.ann.replica"
_START_SECONDS = 120.0
_LOAD_SECONDS = 300.0
_DROP_SECONDS = 10.0
#: A process whose end of the socket is closed is gone within so long.
_EXIT_SECONDS = 2.0
#: Queries of one call, at most.
_TOGETHER = 1024
_NOT_FOR_WORKERS = ("GPUCTL_LISTEN_FD", "GPUCTL_API_KEYS_FILE", "GPUCTL_SECRETS_DIR")

#: The kernel signals a child when the *thread* that made it ends: this one never does.
_parent = ThreadPoolExecutor(1, thread_name_prefix="replica-parent")


class ReplicaFailed(Exception):
    """The replica did not answer this; the CPU does. `reason` is a label of the metrics."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


@dataclass
class _Asked:
    """A request waiting for its turn."""

    record: Record
    seconds: float
    outcome: "Future[Reply]" = field(default_factory=Future)

    def begins(self) -> bool:
        """Its turn has come; False when whoever asked has given up waiting. To be called once."""
        return self.outcome.set_running_or_notify_cancel()


class ReplicaLink(threading.Thread):
    """One process, asked by this thread alone. Dead after any fault but an answer that says so."""

    def __init__(self, temp_mib: int, code: Path = CODE) -> None:
        super().__init__(name="replica-link", daemon=True)
        ours, theirs = socket.socketpair()
        self._wire = Wire(ours, Reply)
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        #: Nothing is asked of one that has ended, where nobody would answer it.
        self._door = threading.Lock()
        service, level = configured()
        start = Start(os.getpid(), theirs.fileno(), temp_mib, service, level)
        self._process = _parent.submit(_launch, start, code).result()
        theirs.close()
        #: The device once the process said so; empty before, and after its end.
        self.device = ""
        self.ended: ReplicaFailed | None = None

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def run(self) -> None:
        """Waits for the device, then serves what is asked."""
        try:
            ready = self._reply(_START_SECONDS)
            if not isinstance(ready, Ready):
                raise ReplicaFailed("load-failure", getattr(ready, "message", "the replica did not begin"))
            self.device = ready.device
            while (asked := self._asked.get()) is not None:
                waiting = asked if asked.begins() else None
                while waiting is not None:
                    waiting = self._serve(waiting)
        except Exception as failure:
            # Whatever it was: without this thread nobody would be answered, and nobody told.
            self.ended = self._why(failure)
        self._end()

    @property
    def over(self) -> ReplicaFailed | None:
        """Why it serves no more, whether its thread could say so or not; None while it does."""
        alive = self.is_alive()
        if alive or self.ended is not None:
            return self.ended
        return ReplicaFailed("replica-died", "the thread that asks the replica's process is gone")

    def close(self) -> None:
        """Ends the process and the thread."""
        self.kill()
        self._asked.put(None)
        if self.is_alive():
            self.join()

    def kill(self) -> None:
        """Ends the process, from any thread; whoever waits for it gets ReplicaFailed."""
        self._process.kill()

    def check(self) -> None:
        """Has the thread notice a process that ended while nobody asked it anything."""
        if self.ended is None and self._process.poll() is not None:
            self._asked.put(_Asked(Drop(0), _START_SECONDS))

    def load(self, record: Record) -> None:
        """Has it clone or drop an index. Raises ReplicaFailed."""
        reply = self._ask(_Asked(record, _DROP_SECONDS if isinstance(record, Drop) else _LOAD_SECONDS))
        if not isinstance(reply, Done):
            raise _refused(reply)

    def search(self, clone: tuple[int, int], queries: Vectors, k: int, nprobe: int, seconds: float) -> Items:
        """Ids in the clone (namespace, number) for each query. Raises ReplicaFailed.

        `seconds` is for the call itself; twice that, it waits for its turn and its answer.
        """
        raw = np.ascontiguousarray(queries, dtype=np.float32).tobytes()
        reply = self._ask(_Asked(Search(*clone, k, nprobe, queries.shape[1], raw), seconds), 2 * seconds)
        if not isinstance(reply, Found):
            raise _refused(reply)
        ids = np.frombuffer(reply.ids, dtype=np.int64)
        if len(ids) != len(queries) * k:
            raise ReplicaFailed("device-error", "the replica answered with another number of results")
        return ids.reshape(len(queries), k)

    def _ask(self, asked: _Asked, patience: float | None = None) -> Reply:
        """Its answer. A call that hangs is ended by the thread, so that whoever waits is answered."""
        with self._door:
            if (over := self.over) is not None:
                raise over
            self._asked.put(asked)
        try:
            return asked.outcome.result(patience)
        except TimeoutError:
            # Others were before it, or a copy is being loaded: nothing is wrong with the process.
            asked.outcome.cancel()
            raise ReplicaFailed(
                "replica-busy", f"neither its turn nor an answer within {patience:g} s"
            ) from None

    def _serve(self, first: _Asked) -> _Asked | None:
        """Answers it and what can go with it; what was taken and could not."""
        together, later = self._take(first)
        try:
            self._send(_joined([asked.record for asked in together]), first.seconds)
            reply = self._reply(first.seconds)
        except Exception as failure:
            said = self._why(failure)
            for asked in [*together, *([later] if later else [])]:
                asked.outcome.set_exception(said)
            raise said from failure
        _share(reply, together)
        return later

    def _take(self, first: _Asked) -> tuple[list[_Asked], _Asked | None]:
        """What waits now and can be asked in the same call, and the first that cannot."""
        together, count = [first], _queries(first)
        while isinstance(first.record, Search) and count < _TOGETHER:
            try:
                asked = self._asked.get_nowait()
            except queue.Empty:
                break
            if asked is None:
                self._asked.put(None)
                break
            if not asked.begins():
                continue
            if not _alike(first.record, asked.record):
                return together, asked
            together.append(asked)
            count += _queries(asked)
        return together, None

    def _send(self, record: Record, seconds: float) -> None:
        try:
            self._wire.send(record, seconds)
        except TimeoutError:
            # A process that is stopped, or stuck between two calls, does not read what no buffer holds.
            raise ReplicaFailed("replica-hung", f"not read within {seconds:g} s") from None

    def _reply(self, seconds: float) -> Reply:
        try:
            reply: Reply = self._wire.receive(seconds)
            return reply
        except TimeoutError:
            raise ReplicaFailed("replica-hung", f"no answer within {seconds:g} s") from None

    def _why(self, failure: Exception) -> ReplicaFailed:
        match failure:
            case ReplicaFailed():
                return failure
            case Closed():
                return self._died()
        return ReplicaFailed("replica-died", f"it could not be asked: {type(failure).__name__}: {failure}")

    def _died(self) -> ReplicaFailed:
        try:
            code = self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return ReplicaFailed("replica-died", "the replica's process closed its end, or said nonsense")
        return ReplicaFailed("replica-died", f"the replica's process ended with status {code}")

    def _end(self) -> None:
        self.device = ""
        self._process.kill()
        failure = self.ended or ReplicaFailed("replica-died", "the replica was stopped")
        with self._door:
            # From here on nobody asks: what waits now is all that will.
            self.ended = failure
        self._refuse(failure)
        self._process.wait()
        self._wire.close()

    def _refuse(self, failure: ReplicaFailed) -> None:
        """Answers all that wait for their turn."""
        while True:
            try:
                asked = self._asked.get_nowait()
            except queue.Empty:
                return
            if asked is not None and asked.begins():
                asked.outcome.set_exception(failure)


def _launch(start: Start, code: Path) -> "subprocess.Popen[bytes]":
    keep = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_WORKERS}
    return subprocess.Popen(  # noqa: S603  this interpreter and a module of ours
        [sys.executable, "-P", "-m", MODULE, msgspec.json.encode(start).decode()],
        env={**keep, "PYTHONPATH": str(code), "OMP_WAIT_POLICY": "PASSIVE"},
        pass_fds=(start.socket,),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _queries(asked: _Asked) -> int:
    record = asked.record
    return len(record.queries) // (4 * record.dimension) if isinstance(record, Search) else 0


def _alike(one: Record, other: Record) -> bool:
    if not isinstance(one, Search) or not isinstance(other, Search):
        return False
    return _shape(one) == _shape(other)


def _shape(one: Search) -> tuple[int, int, int, int, int]:
    return one.ns, one.clone, one.k, one.nprobe, one.dimension


def _joined(records: list[Record]) -> Record:
    first = records[0]
    if len(records) == 1 or not isinstance(first, Search):
        return first
    queries = b"".join(one.queries for one in records if isinstance(one, Search))
    return Search(*_shape(first), queries)


def _share(reply: Reply, together: list[_Asked]) -> None:
    at = 0
    for asked in together:
        part = reply
        if isinstance(reply, Found) and isinstance(asked.record, Search):
            size = 8 * asked.record.k * _queries(asked)
            part, at = Found(reply.ids[at : at + size]), at + size
        asked.outcome.set_result(part)


def _refused(reply: Reply) -> ReplicaFailed:
    if isinstance(reply, Failed):
        return ReplicaFailed(reply.reason, reply.message)
    return ReplicaFailed("device-error", "the replica answered something else")
