"""What an error of a device library means for the engine: try smaller, or never again."""

from typing import Literal

Fault = Literal["out-of-memory", "device-lost", "other"]

_MEMORY_TYPES = frozenset({"OutOfMemoryError", "MemoryError"})
_MEMORY = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "failed to allocate memory",
    "can't allocate memory",
    "available memory of",  # ONNX Runtime's arena: "Available memory of 0 is smaller than requested bytes"
)
#: After any of these the context is poisoned: every later call fails or answers garbage.
_LOST_TYPES = frozenset({"AcceleratorError"})
_LOST = (
    "cuda error",
    "cuda failure",
    "cudaerror",
    "cuda driver",
    "cublas",
    "cudnn",
    "cuda kernel",
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "no kernel image",
    "fell off the bus",
    "uncorrectable ecc",
    "nvrm",
    "mps backend",
    "metal",
)


def classify(failure: BaseException) -> Fault:
    """Judges by the names of its classes and its message: no device library is imported for it."""
    names = {cls.__name__ for cls in type(failure).__mro__}
    message = str(failure).lower()
    if names & _MEMORY_TYPES or any(sign in message for sign in _MEMORY):
        return "out-of-memory"
    if names & _LOST_TYPES or any(sign in message for sign in _LOST):
        return "device-lost"
    return "other"
