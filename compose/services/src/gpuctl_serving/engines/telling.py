"""A state in words: the same for health, info, errors and logs."""

import math
import time

from gpuctl_serving.engines.state import Reason, View
from gpuctl_serving.kit.errors import ServiceError, unavailable

_WORDS: dict[Reason, str] = {
    "provider-absent": "the device that was asked for is not there",
    "load-failure": "the engine cannot be loaded",
    "canary-mismatch": "the model answers its canary wrongly on this device",
    "non-finite": "the device gives values that are not finite numbers",
    "device-error": "the device failed",
    "out-of-memory": "the device ran out of memory again and again",
    "worker-died": "the engine's process died",
    "worker-hung": "the engine does not answer",
    "nvml-fault": "the driver reports a fault of the device",
}
#: Longest wait that a client is asked for.
_PATIENCE = 60


def why(view: View) -> str | None:
    """One sentence without its full stop, or None while all is well."""
    if view.reason is None:
        return None
    words = _WORDS[view.reason]
    return f"{words}: {view.detail}" if view.detail else words


def retry_after(view: View) -> int:
    """Seconds until another try may pass."""
    if view.retry_at is None:
        return 2
    return min(_PATIENCE, max(1, math.ceil(view.retry_at - time.monotonic())))


def refusal(view: View) -> ServiceError:
    """503 for as long as nothing answers."""
    message = (
        f"No engine answers: {why(view) or 'it is starting'}. It is being started again; try again later."
    )
    return unavailable(message, retry_after(view))
