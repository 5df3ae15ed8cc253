"""Farneback's flow in C, scale by scale. The kernel is compiled at first use and kept in the user's cache."""

import ctypes
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stmn.flow._farneback_fit import fit_weights
from stmn.runtime.compiled import Kernel, load_once

KERNEL = Kernel("farneback", "stmn.flow")


class _Expansion(ctypes.Structure):
    """`Expansion` of kernel/farneback.c."""

    _fields_ = (
        ("reach", ctypes.c_int32),
        ("weights", ctypes.c_float * 48),
        ("inverse", ctypes.c_float * 4),
    )


@lru_cache(maxsize=8)
def _expansion(reach: int, sigma: float) -> _Expansion:
    """Return the fit for C; its weights begin at the middle."""
    weights, factors = fit_weights(reach, sigma)
    padded = np.zeros((3, 16))
    padded[:, : reach + 1] = weights[:, reach:]
    made = _Expansion(reach)
    made.weights[:] = padded.ravel().tolist()
    made.inverse[:] = factors.tolist()
    return made


def expand(grey: NDArray[np.uint8], reach: int, sigma: float) -> NDArray[np.float32]:
    """As `stmn.flow.polynomial.expand`.

    Raises:
        MemoryError: The kernel could not allocate its buffers.
    """
    kernel, reason = _load()
    assert kernel is not None, reason
    grey = np.ascontiguousarray(grey)
    height, width = grey.shape
    out = np.empty((height, width, 8), np.float32)
    if kernel.stmn_farneback_expand(
        grey.ctypes.data, height, width, ctypes.byref(_expansion(reach, sigma)), out.ctypes.data
    ):
        raise MemoryError("optical flow: out of memory")
    return out


def flow_between(
    first: NDArray[np.float32], second: NDArray[np.float32], coarse: NDArray[np.float32] | None,
    window: int, iterations: int, median: int,
) -> NDArray[np.float32]:  # fmt: skip
    """As `stmn.flow.polynomial.flow_between`.

    Raises:
        MemoryError: The kernel could not allocate its buffers.
    """
    kernel, reason = _load()
    assert kernel is not None, reason
    height, width = first.shape[:2]
    flow = np.empty((2, height, width), np.float32)
    shape = (0, 0) if coarse is None else coarse.shape[1:]
    coarse = None if coarse is None else np.ascontiguousarray(coarse)
    if kernel.stmn_farneback_flow(
        first.ctypes.data, second.ctypes.data, None if coarse is None else coarse.ctypes.data, *shape, height, width,
        window, iterations, median, flow.ctypes.data,
    ):  # fmt: skip
        raise MemoryError("optical flow: out of memory")
    return flow


def problem() -> str | None:
    """Return why this machine has no C kernel; None if it has one. The first call loads or compiles it."""
    return _load()[1]


@load_once(KERNEL)
def _load(library: ctypes.CDLL) -> None:
    """Declare the kernel's functions."""
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    library.stmn_farneback_expand.argtypes = (pointer, number, number, pointer, pointer)
    library.stmn_farneback_flow.argtypes = (pointer, pointer, pointer, *[number] * 7, pointer)
    for function in (library.stmn_farneback_expand, library.stmn_farneback_flow):
        function.restype = ctypes.c_int
