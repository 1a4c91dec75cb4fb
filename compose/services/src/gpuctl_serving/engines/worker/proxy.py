"""An engine in another process, as the front sees it: an Engine like any other, and killable."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

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
from gpuctl_serving.engines.worker.batches import bytes_of, write_batch
from gpuctl_serving.engines.worker.ending import ending_of
from gpuctl_serving.engines.worker.lane import Lane
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
from gpuctl_serving.engines.worker.stillness import STILL_SECONDS, Watch
from gpuctl_serving.kit.process import usage

#: A worker that misses its beats this long is stopped or stuck, whatever it works on.
PULSE_SECONDS = 3.0
#: A record is a hundred bytes: one that was begun and does not end never will.
RECORD_SECONDS = 5.0
#: Loading reads gigabytes from slow disks and compiles for devices: hours are a hang, minutes are not.
LOAD_SECONDS = 900.0
#: A worker that was told to end, or killed, is gone by then.
_END_SECONDS = 2.0

R = TypeVar("R", bound=Reply)


class WorkerEngine:
    """Runs the engine of `spec` in a process of its own.

    Raises what that engine raises; WorkerDied when the process is gone; WorkerHung when a batch takes
    longer than `hang_seconds`, the process stops beating or, on a CPU, computes nothing for
    `still_seconds`. After any DeviceLost it stays lost: close it and make a new one. One call at a time runs,
    and one `infer_beside`; `kill`, `check` and `pid` are for any thread.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        hang_seconds: float,
        load_seconds: float = LOAD_SECONDS,
        pulse_seconds: float = PULSE_SECONDS,
        still_seconds: float = STILL_SECONDS,
        argv: Sequence[str] | None = None,
    ) -> None:
        self.spec = spec
        self._hang_seconds = hang_seconds
        self._load_seconds = load_seconds
        self._pulse_seconds = pulse_seconds
        self._still_seconds = still_seconds
        self._argv = worker_argv() if argv is None else [*argv]
        self._main, self._side = Lane(), Lane()
        self._process: subprocess.Popen[bytes] | None = None
        self._pulse: Pulse | None = None
        self._lost: DeviceLost | None = None
        self._beating = False

    @property
    def pid(self) -> int | None:
        """The worker's process, None before `load` and once it is gone."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def load(self, model: Path) -> EngineFacts:
        """See Engine. Starts the process; one that dies or hangs meanwhile raises WorkerDied, WorkerHung."""
        with self._main.calling:
            if self._process is not None or self._lost is not None:
                raise self._lost or EngineError("this engine was loaded before: make a new one")
            self._start()
            facts = self._ask(self._main, Load(str(model)), Loaded, self._load_seconds).facts
            self._beating = True
            return facts

    def infer(self, batch: TokenBatch) -> Rows:
        """See Engine."""
        return self._infer(self._main, batch)

    def infer_beside(self, batch: TokenBatch) -> Rows:
        """As `infer`, beside a batch that is running: of engines that can work on two at once."""
        return self._infer(self._side, batch)

    def _infer(self, lane: Lane, batch: TokenBatch) -> Rows:
        with lane.calling:
            self._alive(lane)
            arena = lane.outgoing.reserve(bytes_of(batch))
            request = write_batch(arena, batch)
            answer = self._ask(lane, request, Answer, self._hang_seconds)
            try:
                return lane.rows(answer.shape)
            except ValueError as wrong:
                raise self._lose(WorkerDied(f"the engine's process answered nonsense: {wrong}")) from wrong

    def probe(self) -> tuple[str, ...]:
        """See Engine."""
        with self._main.calling:
            return self._ask(self._main, Probe(), Probed, self._hang_seconds).providers

    def memory(self) -> int:
        """See Engine."""
        with self._main.calling:
            return self._ask(self._main, Memory(), Measured, self._hang_seconds).allocated

    def check(self) -> None:
        """Raises WorkerDied or WorkerHung when that is so, without asking the worker anything."""
        if self._lost is not None:
            raise self._lost
        process, pulse = self._process, self._pulse
        if process is None or pulse is None:
            raise EngineError("this engine is not loaded")
        if process.poll() is not None:
            raise self._lost or WorkerDied(ending_of(process))
        try:
            late = self._beating and pulse.late(self._pulse_seconds)
        except ValueError:  # The page was unmapped meanwhile.
            raise self._lost or WorkerDied("the engine was closed") from None
        if late:
            raise WorkerHung(f"the engine's process stopped beating {self._pulse_seconds:.0f} s ago")

    def kill(self) -> None:
        """Ends the process at once; a call that waits for it raises WorkerDied."""
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """See Engine. Ends the process and waits for it; a call still running fails."""
        with ExitStack() as held:
            for lane in (self._main, self._side):
                if not lane.calling.acquire(timeout=0):
                    self.kill()
                    lane.calling.acquire()
                held.callback(lane.calling.release)
            self._lost = self._lost or WorkerDied("the engine was closed")
            self._end()

    def _start(self) -> None:
        pairs = [socket.socketpair(), socket.socketpair()]
        page = Pulse.new_page()
        try:
            self._process = launch(self.spec, self._argv, [theirs for _, theirs in pairs], page)
        except BaseException:
            for ours, _ in pairs:
                ours.close()
            os.close(page)
            raise
        finally:
            for _, theirs in pairs:
                theirs.close()
        self._pulse = Pulse(page)
        for lane, (ours, _) in zip((self._main, self._side), pairs, strict=True):
            lane.open(ours, RECORD_SECONDS)

    def _alive(self, lane: Lane) -> Link[Request, Reply]:
        if self._lost is not None:
            raise self._lost
        if lane.link is None:
            raise DeviceLost("this engine is not loaded")
        return lane.link

    def _ask(self, lane: Lane, request: Request, wanted: type[R], seconds: float) -> R:
        """One request and its answer. Any doubt about the worker ends it for good."""
        link = self._alive(lane)
        try:
            link.send(request, lane.outgoing.take_unsent())
            self._wait(link, seconds)
            reply, region = link.receive()
            if region is not None:
                lane.take(region)
        except LinkClosed:
            raise self._lost or self._lose(WorkerDied(self._last_words())) from None
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
        pulse, watch = self._pulse, self._watch()
        while not link.wait(min(2 * BEAT_SECONDS, max(0.0, until - time.monotonic()))):
            if self._beating and pulse is not None and pulse.late(self._pulse_seconds):
                what = f"the engine's process stopped beating for {self._pulse_seconds:.0f} s"
                raise self._lose(WorkerHung(what))
            if self._beating and watch is not None and watch.hangs(time.monotonic()):
                what = f"the engine's process computed nothing for {self._still_seconds:.0f} s"
                raise self._lose(WorkerHung(what))
            if time.monotonic() >= until:
                raise self._lose(WorkerHung(f"the engine did not answer within {seconds:.0f} s"))

    def _watch(self) -> Watch | None:
        """None for devices beside the CPU: whoever waits for a card computes nothing and is well."""
        pid = self.pid
        if self.spec.device != "cpu" or pid is None:
            return None
        return Watch(lambda: usage(pid), self._still_seconds)

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
        for lane in (self._main, self._side):
            lane.hang_up()
        if (process := self._process) is not None:
            _reap(process)
        for lane in (self._main, self._side):
            lane.close()
        if self._pulse is not None:
            self._pulse.close()
            self._pulse = None


def _reap(process: "subprocess.Popen[bytes]") -> None:
    """Its socket is closed: it ends by itself, or it is made to."""
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # The kernel may keep it a while, inside a driver: it is reaped with the front then.
            process.wait(_END_SECONDS)
