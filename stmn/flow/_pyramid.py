"""The image pyramid of TV-L1: sizes of its levels and how each is sampled from its neighbours.

Made once per frame size, on the CPU, in NumPy; the torch and the C solver read the same tables.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

MIN_SIDE = 16
"""No level is smaller than this (pixels), unless the frame itself is: below, a level says nothing about motion."""

ANTI_ALIAS = 0.35
"""Sigma of the Gaussian that shrinks a level, in pixels of the shrunk level. Chosen on the Middlebury pairs: weaker
than the textbook's 0.5, because detail is worth more to the flow than freedom from aliasing."""


@dataclass(frozen=True, eq=False)
class Axis:
    """Rows or columns of one level: its `size` samples over the finer level and, if any, over the coarser one.

    Sample i of this level is `sum_k weights[k, i] * finer[start[i] + k]`;
    the coarser level, seen at i, is `(1 - fraction[i]) * coarser[below[i]] + fraction[i] * coarser[below[i] + 1]`.
    """

    size: int
    start: NDArray[np.int32]
    weights: NDArray[np.float32]
    below: NDArray[np.int32]
    fraction: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Level:
    """One level of the pyramid; the finest level is sampled from the frame itself, only smoothed."""

    rows: Axis
    columns: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rows.size, self.columns.size


@lru_cache(maxsize=64)
def pyramid(height: int, width: int, scale: float, scales: int, smoothing: float) -> tuple[Level, ...]:
    """Levels from the frame's own size down, each `scale` times the one before, at most `scales` of them."""
    shapes = [(height, width)]
    while len(shapes) < scales:
        factor = scale ** len(shapes)
        shape = (round(height * factor), round(width * factor))
        if min(shape) < MIN_SIDE or shape == shapes[-1]:
            break
        shapes.append(shape)
    finer = [shapes[0], *shapes[:-1]]
    coarser = [*shapes[1:], shapes[-1]]
    return tuple(
        Level(*(_axis(size[k], fine[k], coarse[k], smoothing) for k in range(2)))
        for size, fine, coarse in zip(shapes, finer, coarser, strict=True)
    )


def _axis(size: int, finer: int, coarser: int, smoothing: float) -> Axis:
    ratio = finer / size
    sigma = max(smoothing, 1e-3) if finer == size else ANTI_ALIAS * ratio
    taps = min(2 * ceil(3 * sigma) + (1 if finer == size else 2), finer)
    centre = (np.arange(size) + 0.5) * ratio - 0.5
    start = np.clip(np.ceil(centre - taps / 2), 0, finer - taps).astype(np.int32)
    distance = start + np.arange(taps)[:, None] - centre
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    weights = (weights / weights.sum(axis=0)).astype(np.float32)
    seen = np.clip((np.arange(size) + 0.5) * coarser / size - 0.5, 0, coarser - 1)
    below = np.clip(np.floor(seen), 0, max(coarser - 2, 0)).astype(np.int32)
    return Axis(size, start, np.ascontiguousarray(weights), below, (seen - below).astype(np.float32))
