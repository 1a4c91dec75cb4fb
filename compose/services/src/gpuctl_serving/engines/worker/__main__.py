"""`python -m gpuctl_serving.engines.worker START`: one engine, asked over a socket, one request at a time."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from gpuctl_serving.engines.protocol import Engine, EngineError, EngineSpec
from gpuctl_serving.engines.worker.arena import Arena, WriterArena
from gpuctl_serving.engines.worker.batches import read_batch
from gpuctl_serving.engines.worker.lifeline import (
    be_the_first_to_go,
    end_without,
    ignore_group_signals,
    tie_to,
)
from gpuctl_serving.engines.worker.link import Link, LinkClosed
from gpuctl_serving.engines.worker.priority import give_way
from gpuctl_serving.engines.worker.pulse import Pulse, keep_beating
from gpuctl_serving.engines.worker.records import (
    Answer,
    Failed,
    Infer,
    Load,
    Loaded,
    Measured,
    Memory,
    Probe,
    Probed,
    Reply,
    Request,
    Start,
)
from gpuctl_serving.kit.logs import Log, configure_logging

MakeEngine = Callable[[EngineSpec], Engine]

#: Status of a worker whose link broke or whose memory could not be mapped.
BROKEN = 71

log = Log(__name__)


@dataclass
class Desk:
    """What both lanes of a worker work with."""

    spec: EngineSpec
    make: MakeEngine
    engine: Engine | None = None


class Worker:
    """Answers the front on one lane until it leaves."""

    def __init__(self, link: Link[Reply, Request], desk: Desk) -> None:
        self._link = link
        self._desk = desk
        self._incoming: Arena | None = None
        self._outgoing = WriterArena("gpuctl-rows")

    def run(self) -> None:
        """Returns when the front closed its end."""
        while True:
            try:
                request, region = self._link.receive()
                if region is not None:
                    self._replace_incoming(region)
                reply = self._answer(request)
                self._link.send(reply, self._outgoing.take_unsent())
            except LinkClosed:
                return

    def _answer(self, request: Request) -> Reply:
        try:
            return self._do(request)
        except EngineError as expected:
            return Failed.of(expected)
        except Exception as failure:  # Whatever a library raises is the front's to judge.
            log.error("engine-failed", request=type(request).__name__.lower())
            return Failed.of(failure)

    def _do(self, request: Request) -> Reply:
        match request:
            case Load(model=model):
                started = time.perf_counter()
                engine = self._desk.make(self._desk.spec)
                facts = engine.load(Path(model))
                self._desk.engine = engine
                log.info("worker-loaded", engine=facts.name, ms=round((time.perf_counter() - started) * 1000))
                return Loaded(facts)
            case Infer():
                return self._infer(request)
            case Probe():
                return Probed(self._loaded.probe())
            case Memory():
                return Measured(self._loaded.memory())

    def _infer(self, request: Infer) -> Reply:
        if self._incoming is None:
            raise EngineError("a batch without shared memory")
        rows = np.asarray(self._loaded.infer(read_batch(self._incoming, request)), np.float32)
        arena = self._outgoing.reserve(max(1, rows.nbytes))
        arena.array(np.float32, rows.size)[:] = rows.reshape(-1)
        return Answer(rows.shape)

    @property
    def _loaded(self) -> Engine:
        if self._desk.engine is None:
            raise EngineError("no model is loaded")
        return self._desk.engine

    def _replace_incoming(self, region: int) -> None:
        before, self._incoming = self._incoming, Arena(region, writable=False)
        if before is not None:
            before.close()


def _link(descriptor: int) -> Link[Reply, Request]:
    return Link(socket.socket(fileno=descriptor), Request)


def run_or_end(worker: Worker) -> None:
    """A lane that cannot go on ends the process: its front would wait for an answer that never comes."""
    try:
        worker.run()
    except Exception as broken:
        log.error("worker-broken", detail=str(broken))
        sys.stdout.flush()
        os._exit(BROKEN)


def serve(argument: str, make: MakeEngine) -> None:
    """Runs the worker that the front described in `argument`, with engines from `make`."""
    start = msgspec.json.decode(argument, type=Start)
    ignore_group_signals()
    tie_to(start.front)
    be_the_first_to_go()
    configure_logging(start.service, start.log_level, process="engine")
    pulse = Pulse(start.pulse)
    keep_beating(pulse, lambda: end_without(start.front))
    desk = Desk(start.spec, make)
    side, main = (Worker(_link(number), desk) for number in (start.side, start.socket))
    threading.Thread(target=run_or_end, args=(side,), name="side", daemon=True).start()
    # After the lane for short texts was started: it keeps its place.
    give_way(start.spec)
    run_or_end(main)
    sys.stdout.flush()
    # Device libraries have exit handlers that may hang; the kernel gives everything back.
    os._exit(0)


def main() -> None:
    """The engine is made by `make_engine`, which imports its device library here and nowhere else."""
    from gpuctl_serving.engines.select import make_engine

    serve(sys.argv[1], make_engine)


if __name__ == "__main__":
    main()
