"""Cut a box out of a stored picture, resize it and normalise it, from bytes to the network's floats in one pass.

The resize is bilinear and anti-aliased, as `torch.nn.functional.interpolate(..., antialias=True)`: a triangle filter as
wide as the scale, at least one pixel, normalised at the edges of the box. A C kernel does it if there is a compiler,
and NumPy otherwise; both give the same bits.
"""

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stmn.runtime.compiled import Kernel, load_once

_KERNEL = Kernel("cut", "stmn.sampling")

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Taps(ctypes.Structure):
    """A filter along one axis: output i is the sum over k of `weights[i, k]` times input `start[i] + k`.

    It has the memory layout that the C kernel reads, and keeps the arrays that it points to alive.

    Args:
        length: number of inputs.
        start: (outputs,) first input of each output.
        weights: (outputs, taps).
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

    def write_matrix(self, out: Floats) -> None:
        """Write the filter as a matrix: its product with a column of inputs is the column of outputs.

        Args:
            out: (outputs, inputs) zeros; it may have extra columns, which stay zero.
        """
        places = self.start[:, None] + np.arange(self.taps, dtype=np.int32)
        np.put_along_axis(out, places, self.weights, axis=1)


class Levels:
    """How 8-bit levels of each channel become a network's input: (level - mean) * scale."""

    def __init__(self, mean: Sequence[float], scale: Sequence[float]) -> None:
        self.mean, self.scale = np.asarray(mean, np.float32), np.asarray(scale, np.float32)
        self.mean_, self.scale_ = self.mean.ctypes.data, self.scale.ctypes.data


@lru_cache(maxsize=4096)
def make_taps(length: int, size: int, mirror: bool = False) -> Taps:
    """Return the filter that resizes `length` pixels to `size`, and mirrors them on request."""
    scale = length / size
    reach = max(scale, 1.0)
    centre = scale * (np.arange(size) + 0.5)
    first = np.maximum((centre - reach + 0.5).astype(int), 0)
    end = np.minimum((centre + reach + 0.5).astype(int), length)
    taps = int((end - first).max())
    start = np.minimum(first, length - taps)  # so that every tap lies inside; those beyond the triangle get weight 0
    place = start[:, None] + np.arange(taps)
    weights = np.maximum(1 - np.abs(place + 0.5 - centre[:, None]) / reach, 0)
    weights[(place < first[:, None]) | (place >= end[:, None])] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    if mirror:
        start, weights = start[::-1], weights[::-1]
    return Taps(length, np.ascontiguousarray(start, np.int32), np.ascontiguousarray(weights, np.float32))


def cut_into(picture: Bytes, top: int, left: int, rows: Taps, columns: Taps, levels: Levels, out: Floats) -> None:
    """Cut a box out of a picture, resize and normalise it.

    Args:
        picture: (images, H, W, channels) uint8, contiguous; a frame is one image of three channels, a flow field is two
            images of one channel.
        top: first row of the box.
        left: first column of the box.
        rows: the filter along the height of the box.
        columns: the filter along the width of the box.
        levels: a mean and a scale for each of the images * channels.
        out: (images * channels, rows.size, columns.size) float32, contiguous; written.
    """
    images, height, width, channels = picture.shape
    kernel, _ = _load_kernel()
    if kernel is None:
        _cut_in_numpy(picture[:, top:, left:], rows, columns, levels, out)
    elif kernel.stmn_cut(
        picture.ctypes.data + (top * width + left) * channels,
        images,
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


def _cut_in_numpy(box: Bytes, rows: Taps, columns: Taps, levels: Levels, out: Floats) -> None:
    """Do `cut_into` without the C kernel: the same operations in the same order."""
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
    """Return why NumPy cuts the boxes; None if the C kernel does. The first call loads or compiles the kernel."""
    return _load_kernel()[1]


@load_once(_KERNEL)
def _load_kernel(library: ctypes.CDLL) -> None:
    """Declare the types of the kernel's function."""
    library.stmn_cut.argtypes = (
        ctypes.c_void_p,
        ctypes.c_int,
        *[ctypes.c_ssize_t] * 2,
        *[ctypes.c_int] * 2,
        *[ctypes.c_void_p] * 5,
    )
    library.stmn_cut.restype = ctypes.c_int
