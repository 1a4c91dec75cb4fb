"""One live engine in the hands of the supervisor, with what it must run and how it proves itself."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from gpuctl_serving.engines.batch_budget import BatchBudget
from gpuctl_serving.engines.budget import after_loading
from gpuctl_serving.engines.protocol import (
    DeviceLost,
    Engine,
    EngineBroken,
    EngineFacts,
    EngineSpec,
    OutOfMemory,
    Rows,
    TokenBatch,
    Tokens,
    WorkerDied,
    WorkerHung,
)
from gpuctl_serving.engines.state import Reason, SlotName
from gpuctl_serving.engines.warmup import Shape, WarmUp, ladder
from gpuctl_serving.kit.logs import Log
from gpuctl_serving.models.probing import Verdict

EngineFactory = Callable[[EngineSpec], Engine]

#: What an ONNX Runtime session of each device must list; anything else is a silent fallback.
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "mps": "CoreMLExecutionProvider",
}


log = Log(__name__)


@dataclass(frozen=True)
class Part:
    """What a slot is for: which engine, with which model, and what proves it."""

    spec: EngineSpec
    file: Path
    #: Names the model: rows are tokenised for exactly one.
    model: str
    pad_id: int
    canary: TokenBatch
    judge: Callable[[Rows], Verdict]
    #: Shape of one text's answer: `(dimension,)`, or `()` for a score.
    shape: tuple[int, ...]
    #: Padded tokens of a batch at most.
    batch_tokens: int
    #: Whether the engine's measured memory decides instead, once it has loaded.
    from_memory: bool = False
    #: The longest text that the model takes: warming up runs its beginnings. None: nothing is warmed.
    longest: Tokens | None = None


@dataclass(frozen=True)
class Proof:
    """What an engine proved just now."""

    providers: tuple[str, ...]
    verdict: Verdict
    #: Bytes its allocator holds on the device; 0 when unknown.
    memory: int
    #: Why this proves nothing, or None.
    reason: Reason | None

    @property
    def detail(self) -> str:
        """For people."""
        if self.reason == "provider-absent":
            return f"the session runs on {', '.join(self.providers) or 'nothing'}"
        return self.verdict.detail


@runtime_checkable
class Killable(Protocol):
    """An engine that can be ended while it works."""

    def kill(self) -> None:
        """Ends it at once."""


@runtime_checkable
class TwoAtOnce(Protocol):
    """An engine that can work on a short batch while a long one runs."""

    def infer_beside(self, batch: TokenBatch) -> Rows:
        """As Engine.infer, from another thread."""


@runtime_checkable
class Watched(Protocol):
    """An engine that can be looked at without asking it anything."""

    def check(self) -> None:
        """Raises DeviceLost when it is gone or hangs."""


class Held:
    """An engine with its part. `infer` and `prove` may come from different threads: one at a time passes."""

    def __init__(self, slot: SlotName, run: int, part: Part, engine: Engine) -> None:
        self.slot: SlotName = slot
        self.run = run
        self.part = part
        self.engine = engine
        self.facts: EngineFacts | None = None
        self.budget = BatchBudget(part.batch_tokens)
        #: What it has not run yet; known once it has loaded.
        self.warmup = WarmUp([])
        #: Real tokens it works through in a second, learned from its batches; 0 before the first.
        self.tokens_per_second = 0.0
        #: Bytes its allocator held at the last proof.
        self.memory = 0
        self._one = threading.Lock()

    def load(self) -> Reason | None:
        """Loads; returns why the session is not what it should be, or None. Raises what the engine raises."""
        with self._one:
            self.facts = self.engine.load(self.part.file)
        if self.part.from_memory:
            self.budget = BatchBudget(after_loading(self.part.batch_tokens, self.facts))
        self.warmup = WarmUp(self.ladder())
        right = self.facts.device == self.part.spec.device and self._provided(self.facts.providers)
        return None if right else "provider-absent"

    def infer(self, batch: TokenBatch) -> Rows:
        """See Engine."""
        with self._one:
            return self.engine.infer(batch)

    def ladder(self) -> list[Shape]:
        """Every shape that warming up runs, cheapest first."""
        longest = self.part.longest
        cpu = self.part.spec.device == "cpu"
        return [] if longest is None else ladder(len(longest), self.budget.tokens, cpu=cpu)

    def warm_for(self, seconds: float) -> None:
        """Runs what fits the time. Raises DeviceLost."""
        until = time.perf_counter() + seconds
        while (shape := self.warmup.next(until - time.perf_counter())) is not None:
            self.warm(shape)

    def warm(self, shape: Shape) -> None:
        """Runs a shape before requests do. Raises DeviceLost; the canary judges what else goes wrong."""
        try:
            self.run_shape(shape)
        except DeviceLost:
            raise
        except OutOfMemory as failure:
            self.budget.shrink(shape.padded, time.monotonic())
            self.warmup.skip(shape)
            log.warning("out-of-memory", warming=str(shape), budget=self.budget.tokens, detail=str(failure))
        except Exception as failure:  # A library raises its own.
            self.warmup.cold.clear()
            log.error("warm-up-failed", slot=self.slot, detail=str(failure))

    def run_shape(self, shape: Shape) -> float:
        """Runs a batch of this shape; returns its seconds. Raises what the engine raises."""
        longest = self.part.longest
        if longest is None:
            raise EngineBroken("there is no text to warm up with")
        row = Tokens(longest.ids[: shape.tokens], None, truncated=False)
        batch = TokenBatch.of([row] * shape.texts, self.part.pad_id)
        started = time.perf_counter()
        answer = self.infer(batch)
        seconds = time.perf_counter() - started
        if not np.isfinite(answer).all():
            raise EngineBroken("warm-up gave values that are not finite numbers (NaN or infinity)")
        self.warmup.ran(shape, seconds)
        return seconds

    @property
    def two_at_once(self) -> bool:
        """Whether `infer_beside` may be called. A GPU's batches are too short for it to be worth anything."""
        return self.part.spec.device == "cpu" and isinstance(self.engine, TwoAtOnce)

    def infer_beside(self, batch: TokenBatch) -> Rows:
        """As `infer`, without waiting for a batch that runs."""
        if not isinstance(self.engine, TwoAtOnce):
            return self.infer(batch)
        return self.engine.infer_beside(batch)

    def prove(self) -> Proof:
        """The live session's providers, a canary answer, allocator bytes. Raises what the engine raises."""
        with self._one:
            providers = self.engine.probe()
            rows = self.engine.infer(self.part.canary)
            self.memory = memory = _memory(self.engine)
        verdict = self.part.judge(rows)
        if not self._provided(providers):
            return Proof(providers, verdict, memory, "provider-absent")
        if verdict.ok:
            return Proof(providers, verdict, memory, None)
        return Proof(
            providers, verdict, memory, "canary-mismatch" if np.isfinite(rows).all() else "non-finite"
        )

    def check(self) -> None:
        """Raises DeviceLost when the engine can tell by itself that it is gone."""
        if self.facts is not None and isinstance(self.engine, Watched):
            self.engine.check()

    def learn(self, tokens: int, seconds: float) -> None:
        """A batch of so many real tokens took so long."""
        rate, before = tokens / max(seconds, 1e-6), self.tokens_per_second
        self.tokens_per_second = 0.8 * before + 0.2 * rate if before else rate

    def end(self) -> None:
        """Ends the engine, hanging or not."""
        if isinstance(self.engine, Killable):
            self.engine.kill()
        self.engine.close()

    def _provided(self, providers: tuple[str, ...]) -> bool:
        spec = self.part.spec
        return not spec.name.startswith("onnxruntime") or _PROVIDERS[spec.device] in providers


def _memory(engine: Engine) -> int:
    asked = getattr(engine, "memory", None)
    return int(asked()) if asked is not None else 0


def reason_of(failure: BaseException) -> Reason:
    """The label of what an engine raised."""
    given = getattr(failure, "reason", None)
    if given in ("device-error", "nvml-fault", "provider-absent"):
        return given  # type: ignore[no-any-return]  # An engine that knows better says so on its exception.
    match failure:
        case WorkerDied():
            return "worker-died"
        case WorkerHung():
            return "worker-hung"
        case DeviceLost():
            return "device-error"
        case OutOfMemory():
            return "out-of-memory"
        case EngineBroken():
            return "load-failure"
    return "device-error"
