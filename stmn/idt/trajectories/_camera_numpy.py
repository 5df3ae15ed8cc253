"""Matches, and flow without camera motion, in NumPy: the reference, and used on machines without a C compiler."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories.pyramid import Field

#: number of bits that are set in each byte
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def match(
    first: NDArray[np.float32], second: NDArray[np.float32], one: NDArray[Any], two: NDArray[Any], window: float
) -> NDArray[np.int64]:
    """As `stmn.idt.trajectories.camera.match`."""
    i, j = np.nonzero((np.abs(first[:, None] - second) <= window).all(axis=2))
    apart = _BITS[one[i] ^ two[j]] if one.dtype == np.uint8 else np.square(one[i] - two[j])
    distance = np.full((len(first), len(second)), np.inf, np.float32)
    distance[i, j] = apart.sum(axis=1, dtype=np.float32)
    here, forth = np.arange(len(first)), distance.argmin(axis=1)
    both = (distance.argmin(axis=0)[forth] == here) & np.isfinite(distance[here, forth])
    return np.where(both, forth, -1)


def stabilise(field: Field, homography: NDArray[Any], inverse: NDArray[Any]) -> Field:
    """As `stmn.idt.trajectories.camera.stabilise`."""
    height, width = field.shape[1:]
    y, x = np.mgrid[:height, :width]
    back_x, back_y = _apply(inverse, x + field[0], y + field[1])
    to_x, to_y = _apply(homography, x, y)
    seen = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
    return np.stack([np.where(seen, back_x - x, 0), np.where(seen, back_y - y, 0)]).astype(np.float32)


def _apply(homography: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Map points by a homography."""
    tx, ty, t = (row[0] * x + row[1] * y + row[2] for row in homography)
    return tx / t, ty / t
