"""Cut a box out of a stored picture, resize and normalise it: bytes in, the network's floats out, nothing between.

The resize is bilinear and anti-aliased, as `torch.nn.functional.interpolate(..., antialias=True)`: a triangle as wide
as the scale, at least one pixel, normalised at the box's edges. A C kernel does it where there is a compiler, NumPy
elsewhere; both give the same bits.
"""

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stmn.runtime.compiled import Kernel, load_once

# No fused multiply-add, no other order of sums: the same bits on every CPU, and from NumPy.
KERNEL = Kernel(
    "cut", "stmn.sampling", ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off")
)

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Axis(ctypes.Structure):
    """Output i is the sum over k of `weights[i, k]` (float32) times input `start[i] + k` (int32), of `length` inputs.

    What the kernel takes, with the arrays that it points into.
    """

    _fields_ = (
        ("size", ctypes.c_int32),
        ("taps", ctypes.c_int32),
        ("start_", ctypes.c_void_p),
        ("weights_", ctypes.c_void_p),
    )

    def __init__(self, length: int, start: NDArray[np.int32], weights: Floats) -> None:
        super().__init__(*weights.shape, start.ctypes.data, weights.ctypes.data)
        self.length, self.start, self.weights = length, start, weights
        self.pointer = ctypes.addressof(self)


class Levels:
    """How levels of each channel become a network's input: (level - mean) * scale."""

    def __init__(self, mean: Sequence[float], scale: Sequence[float]) -> None:
        self.mean, self.scale = np.asarray(mean, np.float32), np.asarray(scale, np.float32)
        self.mean_, self.scale_ = self.mean.ctypes.data, self.scale.ctypes.data


@lru_cache(maxsize=4096)
def axis(length: int, size: int, mirror: bool = False) -> Axis:
    """The taps that take `length` pixels to `size`, or to their mirror image."""
    scale = length / size
    reach = max(scale, 1.0)
    centre = scale * (np.arange(size) + 0.5)
    first = np.maximum((centre - reach + 0.5).astype(int), 0)
    beyond = np.minimum((centre + reach + 0.5).astype(int), length)
    taps = int((beyond - first).max())
    start = np.minimum(first, length - taps)  # every tap lies inside, those that the triangle misses weigh nothing
    place = start[:, None] + np.arange(taps)
    weights = np.maximum(1 - np.abs(place + 0.5 - centre[:, None]) / reach, 0)
    weights[(place < first[:, None]) | (place >= beyond[:, None])] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    if mirror:
        start, weights = start[::-1], weights[::-1]
    return Axis(length, np.ascontiguousarray(start, np.int32), np.ascontiguousarray(weights, np.float32))


def cut_into(picture: Bytes, top: int, left: int, rows: Axis, columns: Axis, levels: Levels, out: Floats) -> None:
    """Resize the box of a picture that begins at (`top`, `left`) and that `rows` and `columns` were made for.

    Args:
        picture: (planes, H, W, channels) uint8, dense.
        top: first row of the box.
        left: first column of the box.
        rows: taps along the height.
        columns: taps along the width.
        levels: a mean and a scale for each of the planes x channels.
        out: (planes * channels, rows.size, columns.size) float32, dense; written.
    """
    planes, height, width, channels = picture.shape
    kernel, _ = load()
    if kernel is None:
        cut_in_numpy(picture[:, top:, left:], rows, columns, levels, out)
    elif kernel.stmn_cut(
        picture.ctypes.data + (top * width + left) * channels,
        planes,
        height * width * channels,
        width * channels,
        columns.length,
        channels,
        rows.pointer,
        columns.pointer,
        levels.mean_,
        levels.scale_,
        out.ctypes.data,
    ):
        raise MemoryError(f"resizing pictures of {width}x{height} pixels: out of memory")


def cut_in_numpy(box: Bytes, rows: Axis, columns: Axis, levels: Levels, out: Floats) -> None:
    """`cut_into` without a compiler: the kernel's operations in the kernel's order."""
    blended = rows.weights[:, 0, None, None] * box[:, rows.start, : columns.length]
    for k in range(1, rows.taps):
        blended += rows.weights[:, k, None, None] * box[:, rows.start + k, : columns.length]
    turned = np.moveaxis(blended, 3, 1).reshape(len(out), rows.size, -1)
    total = columns.weights[:, 0] * turned[:, :, columns.start]
    for k in range(1, columns.taps):
        total += columns.weights[:, k] * turned[:, :, columns.start + k]
    total -= levels.mean[:, None, None]
    np.multiply(total, levels.scale[:, None, None], out=out)


def kernel_problem() -> str | None:
    """Why boxes are cut by NumPy, or None when the C kernel does it. The first call loads or compiles the kernel."""
    return load()[1]


@load_once(KERNEL)
def load(library: ctypes.CDLL) -> None:
    """The compiled kernel, or why there is none."""
    library.stmn_cut.argtypes = (
        ctypes.c_void_p,
        ctypes.c_int,
        *[ctypes.c_ssize_t] * 2,
        *[ctypes.c_int] * 2,
        *[ctypes.c_void_p] * 5,
    )
    library.stmn_cut.restype = ctypes.c_int
