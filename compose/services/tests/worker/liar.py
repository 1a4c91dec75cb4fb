"""A worker that loads and then answers a batch with nonsense. Run by tests: `liar.py <how> START`."""

import mmap
import os
import socket
import struct
import sys
import time

import msgspec
import numpy as np

from gpuctl_serving.engines.protocol import EngineFacts
from gpuctl_serving.engines.worker.arena import new_region
from gpuctl_serving.engines.worker.link import Link
from gpuctl_serving.engines.worker.pulse import Pulse, keep_beating
from gpuctl_serving.engines.worker.records import Answer, Loaded, Probed, Reply, Request, Start

how, start = sys.argv[1], msgspec.json.decode(sys.argv[2], type=Start)
end = socket.socket(fileno=start.socket)
link: Link[Reply, Request] = Link(end, Request)
keep_beating(Pulse(start.pulse), lambda: None)
link.receive()
link.send(Loaded(EngineFacts("cpu", "liar", "float32", ("CPUExecutionProvider",), 1)))
link.receive()
match how:
    case "garbage":
        end.sendall(b"\x00\x00\x00\x05hello")
    case "endless":
        end.sendall(struct.pack("!I", 1 << 31))
    case "half":
        end.sendall(b"\x00\x00")
    case "no-region":
        link.send(Answer((1, 3)))
    case "too-large":
        link.send(Answer((1000, 1_000_000)), new_region("small", mmap.PAGESIZE))
    case "negative":
        link.send(Answer((-1, -3)), new_region("small", mmap.PAGESIZE))
    case "shrinks":
        fd = os.memfd_create("unsealed")
        os.ftruncate(fd, np.dtype(np.float32).itemsize * 3)
        link.send(Answer((1, 3)), fd)
    case "another-answer":
        link.send(Probed(("CPUExecutionProvider",)))
time.sleep(600)
