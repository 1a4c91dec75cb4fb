"""What errors of device libraries mean, in their own words as users report them."""

import pytest

from gpuctl_serving.engines.device_faults import Fault, classify


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch's."""


class AcceleratorError(RuntimeError):
    """Named as PyTorch's."""


@pytest.mark.parametrize(
    ("failure", "meaning"),
    [
        (
            OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 14.56 GiB"),
            "out-of-memory",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "out-of-memory",
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.91 GB)"), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "out-of-memory"),
        (RuntimeError("Failed to allocate memory for requested buffer of size 1073741824"), "out-of-memory"),
        (RuntimeError("Available memory of 0 is smaller than requested bytes of 4096"), "out-of-memory"),
        (AcceleratorError("CUDA error: device-side assert triggered"), "device-lost"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "device-lost"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
            "device-lost",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), "device-lost"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "device-lost"),
        (RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0"), "device-lost"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "device-lost"),
        (ValueError("shapes (3,4) and (5,6) not aligned"), "other"),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), "other"),
    ],
)
def test_errors_mean_what_they_say(failure: Exception, meaning: Fault) -> None:
    assert classify(failure) == meaning
