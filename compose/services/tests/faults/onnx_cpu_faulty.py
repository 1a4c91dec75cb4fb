"""A CPU engine that misbehaves on purpose, for end-to-end tests. Never part of the wheel.

A test takes the built wheel and puts its `gpuctl_serving/engines/onnx_cpu.py` back as `onnx_cpu_real.py`,
and this file in its place. The variable `FAULTY_ENGINE` then chooses the fault; without it the engine is
the real one.

    exit-at-load            the process ends with status 3 while loading
    hang-at-load            loading never returns
    nan                     every answer is NaN
    wrong-dimension         vectors (or the lack of them) have another shape than the model's
    wrong-answers           vectors are turned round: right shape, wrong contents
    slow:<duration>         every batch takes that much longer
    fail                    every batch raises
    exit                    the process ends with status 3 on a batch
    hang                    a batch never returns

All but the first two may be delayed by `-after:<when>`, for example `wrong-answers-after:4s`. `<when>` is a
duration (`4s`, `250ms`) or a number of batches (`100`), counted from the moment the instance answers public
traffic. A fault that is not delayed is there from the first batch, the canary at load included.
"""

import importlib
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from gpuctl_serving.engines.protocol import Engine, EngineFacts, Rows, TokenBatch
from gpuctl_serving.kit.service import InstanceFacts

#: Only there once a test has put it there.
_REAL = "gpuctl_serving.engines.onnx_cpu_real"

_FAULT = re.compile(
    r"(?P<what>exit-at-load|hang-at-load|nan|wrong-dimension|wrong-answers|fail|exit|hang|slow)"
    r"(?::(?P<amount>\d+(?:ms|s)))?(?:-after:(?P<after>\d+(?:ms|s)?))?"
)


class PublicSince:
    """When this process began to answer the public: its runner writes `InstanceFacts.traffic`."""

    opened: float | None = None

    @classmethod
    def watch(cls) -> None:
        """Listens to every write of `traffic`, from now on."""
        plain = InstanceFacts.__setattr__

        def noticing(facts: InstanceFacts, name: str, value: Any) -> None:
            was = getattr(facts, name, None)
            plain(facts, name, value)
            if name == "traffic" and value == "open" and was == "closed":
                cls.opened = time.monotonic()

        InstanceFacts.__setattr__ = noticing  # type: ignore[method-assign,assignment]


PublicSince.watch()


class OnnxCpuEngine:
    """The real engine with one fault."""

    def __init__(self, threads: int) -> None:
        self._real: Engine = importlib.import_module(_REAL).OnnxCpuEngine(threads)
        found = _FAULT.fullmatch(os.environ.get("FAULTY_ENGINE", ""))
        if os.environ.get("FAULTY_ENGINE") and found is None:
            raise ValueError(f"FAULTY_ENGINE={os.environ['FAULTY_ENGINE']} is no known fault")
        self._what = found["what"] if found else ""
        self._amount = _seconds(found["amount"]) if found and found["amount"] else 0.0
        self._after = found["after"] if found else None
        self._batches = 0

    def load(self, model: Path) -> EngineFacts:
        if self._what == "exit-at-load":
            os._exit(3)
        if self._what == "hang-at-load":
            _hang()
        return self._real.load(model)

    def infer(self, batch: TokenBatch) -> Rows:
        rows = self._real.infer(batch)
        return self._spoil(rows) if self._due() else rows

    def probe(self) -> tuple[str, ...]:
        return self._real.probe()

    def memory(self) -> int:
        return self._real.memory()

    def close(self) -> None:
        self._real.close()

    def _due(self) -> bool:
        if not self._what or self._after is None:
            return bool(self._what)
        if PublicSince.opened is None:
            return False
        self._batches += 1
        if self._after.isdigit():
            return self._batches > int(self._after)
        return time.monotonic() - PublicSince.opened >= _seconds(self._after)

    def _spoil(self, rows: Rows) -> Rows:
        match self._what:
            case "nan":
                return np.full_like(rows, np.nan)
            case "wrong-dimension":
                return np.ascontiguousarray(
                    rows[:, :-1] if rows.ndim == 2 else np.stack([rows, rows], axis=1)
                )
            case "wrong-answers":
                return np.ascontiguousarray(rows[:, ::-1] if rows.ndim == 2 else -rows)
            case "fail":
                raise RuntimeError("the test engine fails on purpose")
            case "exit":
                os._exit(3)
            case "hang":
                _hang()
            case "slow":
                time.sleep(self._amount)
        return rows


def _seconds(text: str) -> float:
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text.removesuffix("s"))


def _hang() -> None:
    while True:
        time.sleep(3600)
