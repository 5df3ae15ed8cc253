"""Histograms of patches in C. The kernel is compiled on first use, and kept in the user's cache."""

import ctypes

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories.layout import EPSILON, LIMITS, STILL, Layout
from stmn.idt.trajectories.pyramid import Field, Grey
from stmn.runtime.compiled import Kernel, load_once

KERNEL = Kernel("histograms", "stmn.idt.trajectories")


class _Layout(ctypes.Structure):
    """`Layout` of kernel/histograms.c."""

    _fields_ = (
        ("patch", ctypes.c_int32),
        ("cells", ctypes.c_int32),
        ("still", ctypes.c_float),
        ("epsilon", ctypes.c_float),
        ("units", ctypes.c_float * 4),
        ("limits", ctypes.c_float * 4),
    )


def describe(
    grey: Grey, field: Field, corners: NDArray[np.int32], layout: Layout, sums: Field, rows: NDArray[np.int32]
) -> None:
    """As `stmn.idt.trajectories.histograms.describe`.

    Raises:
        MemoryError: The kernel could not allocate its buffers.
    """
    kernel, problem = _load()
    assert kernel is not None, problem
    grey, field = np.ascontiguousarray(grey), np.ascontiguousarray(field)
    corners, rows = np.ascontiguousarray(corners), np.ascontiguousarray(rows)
    assert sums.flags.c_contiguous and corners.dtype == rows.dtype == np.int32 and field.dtype == np.float32
    made = _Layout(
        layout.patch, layout.cells, STILL, EPSILON, (ctypes.c_float * 4)(*layout.units), (ctypes.c_float * 4)(*LIMITS)
    )
    failed = kernel.stmn_describe(
        grey.ctypes.data, field.ctypes.data, *grey.shape, corners.ctypes.data, rows.ctypes.data, len(rows),
        ctypes.byref(made), sums.ctypes.data,
    )  # fmt: skip
    if failed:
        raise MemoryError("histograms of tracks: out of memory")


def problem() -> str | None:
    """Return why the C kernel is unavailable on this machine; None if it works. The first call loads or compiles it."""
    return _load()[1]


@load_once(KERNEL)
def _load(library: ctypes.CDLL) -> None:
    """Declare the kernel's function."""
    library.stmn_describe.argtypes = (
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p,
    )  # fmt: skip
    library.stmn_describe.restype = ctypes.c_int
