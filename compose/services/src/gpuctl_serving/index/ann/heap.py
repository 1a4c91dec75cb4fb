"""Memory given back to the machine when a large index is gone."""

import ctypes
import sys


def give_back() -> None:
    """What was freed leaves the process at once; the allocator would keep it for later."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
