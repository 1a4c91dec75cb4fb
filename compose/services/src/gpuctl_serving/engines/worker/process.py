"""Starting a worker: its environment, its descriptors, and a parent thread that stays."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

import gpuctl_serving
from gpuctl_serving.engines.protocol import EngineSpec
from gpuctl_serving.engines.worker.records import Start
from gpuctl_serving.kit.logs import configured

#: The module a worker runs.
MODULE = "gpuctl_serving.engines.worker"

#: The kernel signals a worker when the *thread* that made it ends, not the process: this one never ends.
_parent = ThreadPoolExecutor(1, thread_name_prefix="engine-parent")

#: Of the front only.
_NOT_FOR_WORKERS = ("GPUCTL_LISTEN_FD", "GPUCTL_API_KEYS_FILE", "GPUCTL_SECRETS_DIR")


def launch(
    spec: EngineSpec, argv: Sequence[str], ends: Sequence[socket.socket], pulse: int
) -> "subprocess.Popen[bytes]":
    """Starts a worker that holds the sockets and the heartbeat's page; they stay open here too."""
    main, side = (end.fileno() for end in ends)
    service, level = configured()
    start = Start(
        spec=spec, front=os.getpid(), socket=main, side=side, pulse=pulse, service=service, log_level=level
    )
    return _parent.submit(
        subprocess.Popen,
        [*argv, msgspec.json.encode(start).decode()],
        env=environment(spec, os.environ),
        pass_fds=(main, side, pulse),
        stdin=subprocess.DEVNULL,
        # Out of the reach of Ctrl-C and of signals for the front's group.
        start_new_session=True,
    ).result()


def worker_argv() -> list[str]:
    """The command of a worker; its start record follows."""
    return [sys.executable, "-P", "-m", MODULE]


def environment(spec: EngineSpec, front: Mapping[str, str]) -> dict[str, str]:
    """The front's environment, with thread counts of native libraries and where this package is."""
    code = str(Path(gpuctl_serving.__file__).parents[1])
    given = [part for part in front.get("PYTHONPATH", "").split(os.pathsep) if part and part != code]
    threads = str(spec.threads)
    return {name: value for name, value in front.items() if name not in _NOT_FOR_WORKERS} | {
        "PYTHONPATH": os.pathsep.join([code, *given]),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # numpy only pads here.
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Threads that wait sleep: the cores are shared with the front and with neighbours.
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "0",
        "GOMP_SPINCOUNT": "0",
        # One heap for all threads: else each keeps the memory of the largest batch it saw.
        "MALLOC_ARENA_MAX": "1",
    }
