"""Ask NVIDIA's driver about GPUs. That opens a context on none of them, and doesn't need torch."""

import ctypes
from collections.abc import Iterator
from contextlib import suppress

#: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR in cuda.h
_CAPABILITY = (75, 76)


def count_gpus() -> int:
    """Return the number of GPUs that this process can use; 0 without a driver."""
    count = ctypes.c_int()
    driver = next(list_drivers(), None)
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def read_capability(number: int) -> tuple[int, int] | None:
    """Return a GPU's compute capability, major and minor; None if the driver doesn't tell."""
    device, found = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    driver = next(list_drivers(), None)
    if driver is None or driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), number):
        return None
    for value, attribute in zip(found, _CAPABILITY, strict=True):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return found[0].value, found[1].value


def list_drivers() -> Iterator[ctypes.CDLL]:
    """Yield NVIDIA's driver, if it is installed, by its name on Linux or Windows."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with suppress(OSError):
            yield ctypes.CDLL(name)
