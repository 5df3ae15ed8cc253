"""Corners, matches, and flow without camera motion, in C. The kernel is compiled on first use."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories.pyramid import Field, Grey
from stmn.runtime.compiled import Kernel, load_once

KERNEL = Kernel("camera", "stmn.idt.trajectories")


def find_corners(strength: Field, least: float, distance: int, most: int) -> NDArray[np.float32]:
    """Find local maxima that keep their distance from stronger ones.

    Args:
        strength: (H, W) strength of corners.
        least: The strength that a corner must exceed.
        distance: The least distance between two corners, pixels.
        most: The most corners to find, the strongest first.

    Returns:
        (N, 2) x and y.

    Raises:
        MemoryError: The kernel could not allocate its buffers.
    """
    kernel, reason = _load()
    assert kernel is not None, reason
    strength = np.ascontiguousarray(strength)
    found = np.empty((most, 2), np.float32)
    count = kernel.stmn_corners(strength.ctypes.data, *strength.shape, least, distance, most, found.ctypes.data)
    if count < 0:
        raise MemoryError("corners: out of memory")
    return found[:count]


def measure_corners(grey: Grey) -> Field:
    """As `stmn.idt.trajectories.camera.measure_corners`.

    Raises:
        MemoryError: The kernel could not allocate its buffers.
    """
    kernel, reason = _load()
    assert kernel is not None, reason
    grey = np.ascontiguousarray(grey)
    strength = np.empty(grey.shape, np.float32)
    if kernel.stmn_strength(grey.ctypes.data, *grey.shape, strength.ctypes.data):
        raise MemoryError("corners: out of memory")
    return strength


def match(
    first: NDArray[np.float32], second: NDArray[np.float32], one: NDArray[Any], two: NDArray[Any], window: float
) -> NDArray[np.int64]:
    """As `stmn.idt.trajectories.camera.match`.

    Raises:
        MemoryError: The kernel could not allocate its buffers.
    """
    kernel, reason = _load()
    assert kernel is not None, reason
    first, second, one, two = (np.ascontiguousarray(a) for a in (first, second, one, two))
    assert one.dtype == two.dtype and one.dtype in (np.uint8, np.float32) and one.shape[1] == two.shape[1]
    best = np.empty(len(first), np.int64)
    if kernel.stmn_match(
        first.ctypes.data, second.ctypes.data, len(first), len(second), one.ctypes.data, two.ctypes.data,
        one.shape[1] * one.itemsize, one.dtype == np.float32, window, best.ctypes.data,
    ):  # fmt: skip
        raise MemoryError("matches of features: out of memory")
    return best


def stabilise(field: Field, homography: NDArray[Any], inverse: NDArray[Any]) -> Field:
    """As `stmn.idt.trajectories.camera.stabilise`."""
    kernel, reason = _load()
    assert kernel is not None, reason
    field = np.ascontiguousarray(field)
    out = np.empty_like(field)
    forth, back = (np.ascontiguousarray(h, np.float32) for h in (homography, inverse))
    kernel.stmn_stabilise(field.ctypes.data, *field.shape[1:], forth.ctypes.data, back.ctypes.data, out.ctypes.data)
    return out


def problem() -> str | None:
    """Return why the C kernel is unavailable on this machine; None if it works. The first call loads or compiles it."""
    return _load()[1]


@load_once(KERNEL)
def _load(library: ctypes.CDLL) -> None:
    """Declare the kernel's functions."""
    pointer, number, long, real = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_float
    library.stmn_corners.argtypes = (pointer, number, number, real, number, long, pointer)
    library.stmn_corners.restype = long
    library.stmn_strength.argtypes = (pointer, number, number, pointer)
    library.stmn_strength.restype = ctypes.c_int
    library.stmn_match.argtypes = (pointer, pointer, long, long, pointer, pointer, long, number, real, pointer)
    library.stmn_match.restype = ctypes.c_int
    library.stmn_stabilise.argtypes = (pointer, number, number, pointer, pointer, pointer)
    library.stmn_stabilise.restype = None
