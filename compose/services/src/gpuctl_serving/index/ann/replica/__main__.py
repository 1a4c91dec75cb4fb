"""`python -m gpuctl_serving.index.ann.replica START`: holds the GPU's clones, searches one call at a time."""

import os
import socket
import sys
from typing import Any

import msgspec
import numpy as np

from gpuctl_serving.engines.worker.lifeline import ignore_group_signals, tie_to
from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.index.ann.replica import device
from gpuctl_serving.index.ann.replica.records import (
    Closed,
    Done,
    Drop,
    Failed,
    Found,
    Load,
    Ready,
    Reply,
    Request,
    Search,
    Start,
    Wire,
)
from gpuctl_serving.kit.logs import Log, configure_logging

log = Log(__name__)


class Replica:
    """FAISS's GPU resources may be used by one thread only: this one."""

    def __init__(self, wire: Wire, gpu: device.Gpu) -> None:
        self._wire, self._gpu = wire, gpu
        self._clones: dict[int, tuple[int, Any]] = {}

    def run(self) -> None:
        """Returns when the front closed its end."""
        try:
            while True:
                request = self._wire.receive()
                try:
                    reply = self._answer(request)
                except (RuntimeError, MemoryError, AssertionError) as failure:
                    reply = _failed(failure)
                self._wire.send(reply)
        except Closed:
            return

    def _answer(self, request: Request) -> Reply:
        match request:
            case Load():
                self._clones.pop(request.ns, None)
                index = faiss.read_index(request.path)
                clone = self._gpu.clone(index, float16_tables=request.float16_tables)
                self._clones[request.ns] = request.clone, clone
                return Done()
            case Drop():
                self._clones.pop(request.ns, None)
                return Done()
            case Search():
                return self._search(request)

    def _search(self, request: Search) -> Reply:
        number, clone = self._clones.get(request.ns, (0, None))
        if number != request.clone:
            return Failed("no-clone", f"namespace {request.ns} has no clone {request.clone}")
        if request.nprobe:
            clone.nprobe = request.nprobe
        queries = np.frombuffer(request.queries, dtype=np.float32).reshape(-1, request.dimension)
        found = clone.search(queries, request.k)[1]
        return Found(np.ascontiguousarray(found, dtype=np.int64).tobytes())


def _failed(failure: BaseException) -> Failed:
    said = str(failure)
    memory = isinstance(failure, MemoryError) or any(
        word in said.lower() for word in ("out of memory", "cudamalloc", "memory allocation")
    )
    return Failed("out-of-memory" if memory else "device-error", said[:500])


def main() -> None:
    """Opens the device, says so, and serves."""
    start = msgspec.json.decode(sys.argv[1], type=Start)
    ignore_group_signals()
    tie_to(start.front)
    configure_logging(start.service, start.log_level, process="replica")
    wire = Wire(socket.socket(fileno=start.socket), Request)
    try:
        gpu = device.Gpu(start.temp_mib)
    except (RuntimeError, MemoryError, AssertionError) as failure:
        wire.send(_failed(failure))
        os._exit(1)
    wire.send(Ready(device.DEVICE))
    Replica(wire, gpu).run()
    sys.stdout.flush()
    # CUDA's exit handlers may hang; the driver takes everything back.
    os._exit(0)


if __name__ == "__main__":
    main()
