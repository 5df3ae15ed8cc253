"""One step of the tracks of a scale in C. The kernel is compiled on first use, and kept in the user's cache."""

import ctypes

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories.pyramid import Field
from stmn.runtime.compiled import Kernel, load_once

KERNEL = Kernel("steps", "stmn.idt.trajectories")

Slots = NDArray[np.int32]


class _Tracks(ctypes.Structure):
    """`Tracks` of kernel/steps.c."""

    _fields_ = (
        ("live", ctypes.c_void_p),
        ("age", ctypes.c_void_p),
        ("points", ctypes.c_void_p),
        ("moves", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("length", ctypes.c_int32),
        ("spans", ctypes.c_int32),
    )


def advance(
    live: Slots, age: Slots, points: Field, moves: Field, spans: int, flow: Field, still: Field, patch: int
) -> tuple[NDArray[np.bool_], NDArray[np.int32], Slots]:
    """As `stmn.idt.trajectories.steps.advance`."""
    kernel, reason = _load()
    assert kernel is not None, reason
    flow, still = np.ascontiguousarray(flow), np.ascontiguousarray(still)
    keep, corners, rows = np.empty(len(live), bool), np.empty((len(live), 2), np.int32), np.empty(len(live), np.int32)
    tracks = _Tracks(
        live.ctypes.data, age.ctypes.data, points.ctypes.data, moves.ctypes.data, len(live), moves.shape[1], spans
    )
    kept = kernel.stmn_advance(
        ctypes.byref(tracks), flow.ctypes.data, still.ctypes.data, *flow.shape[1:], patch, keep.ctypes.data,
        corners.ctypes.data, rows.ctypes.data,
    )  # fmt: skip
    return keep, corners[:kept], rows[:kept]


def find_starts(live: Slots, age: Slots, points: Field, strength: Field, step: int, quality: float) -> Field:
    """As `stmn.idt.trajectories.steps.find_starts`."""
    kernel, reason = _load()
    assert kernel is not None, reason
    strength = np.ascontiguousarray(strength)
    height, width = strength.shape
    taken = np.zeros((height // step, width // step), bool)
    found = np.empty((taken.size, 2), np.float32)
    tracks = _Tracks(live.ctypes.data, age.ctypes.data, points.ctypes.data, None, len(live), points.shape[1] - 1, 1)
    count = kernel.stmn_starts(
        ctypes.byref(tracks), strength.ctypes.data, height, width, step, quality, taken.ctypes.data, found.ctypes.data
    )
    return found[:count]


def problem() -> str | None:
    """Return why the C kernel is unavailable on this machine; None if it works. The first call loads or compiles it."""
    return _load()[1]


@load_once(KERNEL)
def _load(library: ctypes.CDLL) -> None:
    """Declare the kernel's functions."""
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    library.stmn_advance.argtypes = (pointer, pointer, pointer, number, number, number, pointer, pointer, pointer)
    library.stmn_starts.argtypes = (pointer, pointer, number, number, number, ctypes.c_float, pointer, pointer)
    for function in (library.stmn_advance, library.stmn_starts):
        function.restype = ctypes.c_int64
