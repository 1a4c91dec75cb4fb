"""An engine in another process, as the front sees it: an Engine like any other, and killable."""

import contextlib
import math
import os
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from gpuctl_serving.engines.protocol import (
    DeviceLost,
    EngineError,
    EngineFacts,
    EngineSpec,
    Rows,
    TokenBatch,
    WorkerDied,
    WorkerHung,
)
from gpuctl_serving.engines.worker.arena import Arena, WriterArena
from gpuctl_serving.engines.worker.batches import bytes_of, write_batch
from gpuctl_serving.engines.worker.ending import ending_of
from gpuctl_serving.engines.worker.link import Link, LinkBroken, LinkClosed
from gpuctl_serving.engines.worker.process import launch, worker_argv
from gpuctl_serving.engines.worker.pulse import BEAT_SECONDS, Pulse
from gpuctl_serving.engines.worker.records import (
    Answer,
    Failed,
    Load,
    Loaded,
    Measured,
    Memory,
    Probe,
    Probed,
    Reply,
    Request,
)

#: A worker that misses its beats this long is stopped or stuck, whatever it works on.
PULSE_SECONDS = 3.0
#: Loading reads gigabytes from slow disks and compiles for devices: hours are a hang, minutes are not.
LOAD_SECONDS = 900.0
#: A worker that was told to end, or killed, is gone by then.
_END_SECONDS = 2.0

R = TypeVar("R", bound=Reply)


class WorkerEngine:
    """Runs the engine of `spec` in a process of its own.

    Raises what that engine raises; WorkerDied when the process is gone; WorkerHung when a batch takes
    longer than `hang_seconds` or the process stops beating. After any DeviceLost it stays lost: close it
    and make a new one. One call at a time runs; `kill`, `check` and `pid` are for any thread.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        hang_seconds: float,
        load_seconds: float = LOAD_SECONDS,
        pulse_seconds: float = PULSE_SECONDS,
        argv: Sequence[str] | None = None,
    ) -> None:
        self.spec = spec
        self._hang_seconds = hang_seconds
        self._load_seconds = load_seconds
        self._pulse_seconds = pulse_seconds
        self._argv = worker_argv() if argv is None else [*argv]
        self._calling = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link[Request, Reply] | None = None
        self._pulse: Pulse | None = None
        self._outgoing = WriterArena("gpuctl-tokens")
        self._incoming: Arena | None = None
        self._lost: DeviceLost | None = None
        self._beating = False

    @property
    def pid(self) -> int | None:
        """The worker's process, None before `load` and once it is gone."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def load(self, model: Path) -> EngineFacts:
        """See Engine. Starts the process; one that dies or hangs meanwhile raises WorkerDied, WorkerHung."""
        with self._calling:
            if self._process is not None or self._lost is not None:
                raise self._lost or EngineError("this engine was loaded before: make a new one")
            self._start()
            facts = self._ask(Load(str(model)), Loaded, self._load_seconds).facts
            self._beating = True
            return facts

    def infer(self, batch: TokenBatch) -> Rows:
        """See Engine."""
        with self._calling:
            self._alive()
            arena = self._outgoing.reserve(bytes_of(batch))
            request = write_batch(arena, batch)
            answer = self._ask(request, Answer, self._hang_seconds, self._outgoing.take_unsent())
            return self._rows(answer.shape)

    def probe(self) -> tuple[str, ...]:
        """See Engine."""
        with self._calling:
            return self._ask(Probe(), Probed, self._hang_seconds).providers

    def memory(self) -> int:
        """See Engine."""
        with self._calling:
            return self._ask(Memory(), Measured, self._hang_seconds).allocated

    def check(self) -> None:
        """Raises WorkerDied or WorkerHung when that is so, without asking the worker anything."""
        if self._lost is not None:
            raise self._lost
        process, pulse = self._process, self._pulse
        if process is None or pulse is None:
            raise EngineError("this engine is not loaded")
        if process.poll() is not None:
            raise WorkerDied(ending_of(process))
        if self._beating and pulse.late(self._pulse_seconds):
            raise WorkerHung(f"the engine's process stopped beating {self._pulse_seconds:.0f} s ago")

    def kill(self) -> None:
        """Ends the process at once; a call that waits for it raises WorkerDied."""
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """See Engine. Ends the process and waits for it; a call still running fails."""
        if not self._calling.acquire(timeout=0):
            self.kill()
            self._calling.acquire()
        try:
            self._lost = self._lost or WorkerDied("the engine was closed")
            self._end()
        finally:
            self._calling.release()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        page = Pulse.new_page()
        try:
            self._process = launch(self.spec, self._argv, theirs, page)
        except BaseException:
            ours.close()
            os.close(page)
            raise
        finally:
            theirs.close()
        self._pulse = Pulse(page)
        self._link = Link(ours, Reply)

    def _alive(self) -> Link[Request, Reply]:
        if self._lost is not None:
            raise self._lost
        if self._link is None:
            raise DeviceLost("this engine is not loaded")
        return self._link

    def _ask(self, request: Request, wanted: type[R], seconds: float, descriptor: int | None = None) -> R:
        """One request and its answer. Any doubt about the worker ends it for good."""
        link = self._alive()
        try:
            link.send(request, descriptor)
            self._wait(link, seconds)
            reply, region = link.receive()
            if region is not None:
                self._replace_incoming(region)
        except LinkClosed:
            raise self._lose(WorkerDied(self._last_words())) from None
        except (LinkBroken, OSError, ValueError) as broken:
            raise self._lose(WorkerDied(f"the engine's process answered nonsense: {broken}")) from broken
        if isinstance(reply, wanted):
            return reply
        if not isinstance(reply, Failed):
            raise self._lose(WorkerDied(f"the engine's process answered {reply!r} to {request!r}"))
        error = reply.error()
        raise self._lose(error) if isinstance(error, DeviceLost) else error

    def _wait(self, link: Link[Request, Reply], seconds: float) -> None:
        """Until there is an answer or the end of the process."""
        until = time.monotonic() + seconds
        pulse = self._pulse
        while not link.wait(min(2 * BEAT_SECONDS, max(0.0, until - time.monotonic()))):
            if self._beating and pulse is not None and pulse.late(self._pulse_seconds):
                what = f"the engine's process stopped beating for {self._pulse_seconds:.0f} s"
                raise self._lose(WorkerHung(what))
            if time.monotonic() >= until:
                raise self._lose(WorkerHung(f"the engine did not answer within {seconds:.0f} s"))

    def _rows(self, shape: tuple[int, ...]) -> Rows:
        try:
            if self._incoming is None or not 1 <= len(shape) <= 3:
                raise ValueError(f"an answer of shape {shape}")
            count = math.prod(shape)
            # A copy: the worker writes its next answer to the same place.
            return self._incoming.array(np.float32, count).reshape(shape).copy()
        except ValueError as wrong:
            raise self._lose(WorkerDied(f"the engine's process answered nonsense: {wrong}")) from wrong

    def _replace_incoming(self, region: int) -> None:
        fresh = Arena(region, writable=False)
        if self._incoming is not None:
            self._incoming.close()
        self._incoming = fresh

    def _last_words(self) -> str:
        process = self._process
        if process is None:
            return "the engine's process is gone"
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "the engine's process closed its connection"
        return ending_of(process)

    def _lose(self, failure: DeviceLost) -> DeviceLost:
        """This engine is of no use any more: nothing it still does may cost memory or a core."""
        self._lost = failure
        self.kill()
        return failure

    def _end(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        if (process := self._process) is not None:
            _reap(process)
        for part in (self._outgoing, self._incoming, self._pulse):
            if part is not None:
                part.close()
        self._incoming = self._pulse = None


def _reap(process: "subprocess.Popen[bytes]") -> None:
    """Its socket is closed: it ends by itself, or it is made to."""
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # The kernel may keep it a while, inside a driver: it is reaped with the front then.
            process.wait(_END_SECONDS)
