"""Every engine of a model as `/info` shows it."""

import time
from typing import Any

from gpuctl_serving.engines.served_model import ServedModel
from gpuctl_serving.engines.state import Slot, SlotName, Waiting


def engines_of(served: ServedModel) -> list[dict[str, Any]]:
    """The primary and the fallback: device, model, what each is doing, and what memory allows it."""
    return [_engine(served, name, slot) for name, slot in served.supervisor.slots().items()]


def _engine(served: ServedModel, name: SlotName, slot: Slot) -> dict[str, Any]:
    part, held, status = served.supervisor.part(name), served.supervisor.held(name), slot.status
    waits = status.until - time.monotonic() if isinstance(status, Waiting) else None
    return {
        "slot": name,
        "engine": part.spec.name,
        "device": slot.device,
        "dtype": part.spec.dtype,
        "model": part.model,
        "state": type(status).__name__.lower(),
        "starts": slot.run,
        "losses": slot.losses,
        "reason": slot.reason,
        "detail": slot.detail or None,
        "retry_in_seconds": None if waits is None else round(max(0.0, waits), 1),
        "batch_tokens": held.budget.tokens if held is not None else None,
        "most_batch_tokens": held.budget.most if held is not None else part.batch_tokens,
        "memory_bytes": held.memory if held is not None else 0,
    }
