"""Resize pictures by two matrix products, one along the rows and one along the columns, on any device.

The matrices hold the taps of `stmn.sampling.resample`, so the pixels equal those of its kernel, except for the order of
sums. On a GPU two large products are faster than many small gathers, although most weights are 0.
"""

import numpy as np
import torch
from torch import Tensor

from stmn.runtime.device import Device
from stmn.runtime.precision import float32_products
from stmn.sampling.resample import make_taps


def align(length: int) -> int:
    """Return a length rounded up to a multiple of 8: cuBLAS's fastest kernels for TF32 need rows of such lengths."""
    return -(-length // 8) * 8


def make_matrix(length: int, size: int, mirror: bool = False) -> Tensor:
    """Return the matrix, (size, length) float32, that resizes `length` pixels to `size`, and optionally mirrors."""
    matrix = np.zeros((size, length), np.float32)
    make_taps(length, size, mirror).write_matrix(matrix)
    return torch.from_numpy(matrix)


def resize_by_products(pictures: Tensor, rows: Tensor, columns: Tensor, device: Device) -> Tensor:
    """Resize B batches of K planes, whatever the caller's precision.

    In float32 the results differ from the CPU's by rounding. If the network rounds its input just as coarsely, TF32 is
    used, which is eight times as fast: levels are exact in it; weights and the values between both products are
    rounded, which changes a pixel by less than half a level.

    On a GPU it is fastest if H, W and W' are `align`ed: padded with zeros, which change no pixel.

    Args:
        pictures: (B, H, K, W) float32, contiguous: row by row, not plane by plane.
        rows: (B, H', H) float32.
        columns: (B, W', W) float32.
        device: where they are.

    Returns:
        (B, H', K, W').
    """
    count, _, planes, width = pictures.shape
    with float32_products(device.allows_tf32_input), torch.autocast(pictures.device.type, enabled=False):
        short = torch.bmm(rows, pictures.flatten(2))
        narrow = torch.bmm(short.view(count, -1, width), columns.transpose(1, 2))
    return narrow.view(count, rows.shape[1], planes, columns.shape[1])
