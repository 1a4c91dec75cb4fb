"""Engines that misbehave on purpose: what can go wrong, when, and how it looks. Never part of the wheel.

A test puts this file into a copy of the package (package.py, test/support/faulty-wheel.ts) beside an engine
that asks it. It runs in the engine's worker process. A fault is named by

    exit-at-load            the worker ends with status 3 while loading
    hang-at-load            loading never returns
    fail-at-load            the engine says that it cannot be loaded
    oom, oom-above:<tokens> memory runs out, always or above so many padded tokens of a batch
    cuda-error              the device is lost: an illegal memory access
    nan                     every answer is NaN
    wrong-dimension         vectors (or the lack of them) have another shape than the model's
    wrong-count             an answer is missing
    wrong-answers           vectors are turned round: right shape, wrong contents
    slow:<duration>         every batch takes that much longer
    fail                    every batch raises what no engine should
    exit, crash             the worker ends with status 3, or by SIGABRT, on a batch
    flap:<batches>          every worker ends with status 3 after so many batches
    hang, stop              a batch never returns; the whole worker is stopped (SIGSTOP)

those of batches may be delayed by `-after:<when>`, for example `wrong-answers-after:4s`. `<when>` is a
duration (`4s`, `250ms`) or a number of batches (`100`), counted from this worker's first batch while its
instance answers public traffic. A fault that is not delayed is there from the first batch, the canary at
load included.

`random:<share>:<seed>:<fault>+<fault>...` has that share of batches meet one of the faults; `@<file>` reads
the fault from a file before every batch, so that a test may begin and end it.
"""

import json
import os
import random
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpuctl_serving.engines.protocol import DeviceLost, EngineBroken, OutOfMemory, Rows, TokenBatch
from gpuctl_serving.kit.control import Refused, ask_now

_FAULT = re.compile(
    r"(?P<what>[a-z]+(?:-(?!after:)[a-z]+)*)(?::(?P<amount>[0-9]+(?:ms|s)?))?(?:-after:(?P<after>[0-9]+(?:ms|s)?))?"
)
_AT_LOAD = ("exit-at-load", "hang-at-load", "fail-at-load")
_ON_A_BATCH = (
    *("oom", "oom-above", "cuda-error", "nan", "wrong-dimension", "wrong-count", "wrong-answers"),
    *("slow", "fail", "exit", "crash", "flap", "hang", "stop"),
)


@dataclass(frozen=True)
class Fault:
    """One fault, as it is named."""

    what: str
    amount: str = ""
    after: str = ""

    @classmethod
    def named(cls, text: str) -> "Fault | None":
        """None for no fault. Raises ValueError for one that is not known."""
        if not text:
            return None
        found = _FAULT.fullmatch(text)
        if found is None or found["what"] not in (*_AT_LOAD, *_ON_A_BATCH):
            raise ValueError(f"{text!r} is no known fault")
        return cls(found["what"], found["amount"] or "", found["after"] or "")


class Faults:
    """What a variable asks for, in one worker's life."""

    def __init__(self, asked: str, env: Mapping[str, str] = os.environ) -> None:
        self._file = Path(asked[1:]) if asked.startswith("@") else None
        self._asked = asked
        self._env = env
        self._life = _life(self._file)
        self._dice: tuple[str, random.Random] = ("", random.Random(0))  # noqa: S311 - not for secrets
        self._batches = 0
        self._public_since: float | None = None
        self._public_batches = 0
        self._now()

    def at_load(self) -> None:
        """What happens while loading."""
        match self._now():
            case Fault("exit-at-load"):
                os._exit(3)
            case Fault("hang-at-load"):
                _hang()
            case Fault("fail-at-load"):
                raise EngineBroken("the test engine cannot be loaded on purpose")

    def before(self, batch: TokenBatch) -> "Fault | None":
        """What happens before the real engine sees a batch; returns what is left to spoil."""
        fault = self._now()
        self._batches += 1
        if fault is None or not self._due(fault):
            return None
        match fault.what:
            case "oom":
                raise OutOfMemory("the test engine has no memory")
            case "oom-above" if batch.padded_tokens > int(fault.amount):
                raise OutOfMemory(f"{batch.padded_tokens} padded tokens do not fit {fault.amount}")
            case "cuda-error":
                raise DeviceLost("CUDA error: an illegal memory access was encountered")
            case "fail":
                raise RuntimeError("the test engine fails on purpose")
            case "flap" if self._batches > int(fault.amount):
                os._exit(3)
            case "exit":
                os._exit(3)
            case "crash":
                os.abort()
            case "hang":
                _hang()
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "slow":
                time.sleep(seconds(fault.amount))
        return fault

    def _now(self) -> Fault | None:
        asked = self._asked if self._file is None else self._file.read_text().strip()
        if not asked.startswith("random:"):
            return Fault.named(asked)
        _, share, seed, names = asked.split(":", 3)
        if self._dice[0] != asked:
            self._dice = (asked, random.Random(f"{seed}/{self._life}"))  # noqa: S311 - not for secrets
        faults = [Fault.named(name) for name in names.split("+")]
        dice = self._dice[1]
        return dice.choice(faults) if dice.random() < float(share) else None

    def _due(self, fault: Fault) -> bool:
        if not fault.after:
            return True
        if self._public_since is None and _is_public(self._env):
            self._public_since = time.monotonic()
        if self._public_since is None:
            return False
        self._public_batches += 1
        if fault.after.isdigit():
            return self._public_batches > int(fault.after)
        return time.monotonic() - self._public_since >= seconds(fault.after)


def spoil(fault: Fault | None, rows: Rows) -> Rows:
    """The answer as the fault leaves it."""
    match fault:
        case Fault("nan"):
            return np.full_like(rows, np.nan)
        case Fault("wrong-dimension"):
            return np.ascontiguousarray(rows[:, :-1] if rows.ndim == 2 else np.stack([rows, rows], axis=1))
        case Fault("wrong-count"):
            return rows[:-1]
        case Fault("wrong-answers"):
            return np.ascontiguousarray(rows[:, ::-1] if rows.ndim == 2 else -rows)
    return rows


def seconds(text: str) -> float:
    """`250ms` or `4s`."""
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text.removesuffix("s"))


def _is_public(env: Mapping[str, str]) -> bool:
    """Whether the instance whose engine this is has its public traffic open; one without a keeper has."""
    if "GPUCTL_INSTANCE_FILE" not in env:
        return True
    document = json.loads(Path(env["GPUCTL_INSTANCE_FILE"]).read_text())
    if "gate" in document:  # in a container, a file of its host says it
        gate = Path(document["gate"])
        return gate.exists() and gate.read_text().strip() == "open"
    control = document["control"]
    try:
        hello, _ = ask_now(Path(control), {"op": "hello"}, 2.0)
    except (OSError, Refused):
        return False
    return bool(hello["traffic"] == "open")


def _life(file: Path | None) -> int:
    """Which worker this is of those that read the file: equal seeds give each other dice."""
    if file is None:
        return 0
    with file.with_suffix(".lives").open("ab") as lives:
        lives.write(b".")
        lives.flush()
        return lives.tell()


def _hang() -> None:
    while True:
        time.sleep(3600)
