"""The image pyramid of TV-L1: the sizes of its levels, and how each level is sampled from its neighbours.

The tables are made once per frame size, in NumPy; the torch solver and the C solver read the same tables.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

#: smallest side of a level, in pixels, unless the frame itself is smaller: tiny levels say nothing about motion
_MIN_SIDE = 16
#: sigma of the Gaussian that shrinks a level, in pixels of the smaller level. Chosen on the Middlebury pairs; weaker
#: than the textbook value of 0.5, because detail helps the flow more than aliasing hurts it
_ANTI_ALIAS = 0.35


@dataclass(frozen=True, eq=False)
class LevelAxis:
    """Sampling of a level's rows or columns from the finer level, and of the coarser level at them.

    Pixel i of this level is `sum_k weights[k, i] * finer[start[i] + k]`. The coarser level at pixel i is
    `(1 - fraction[i]) * coarser[below[i]] + fraction[i] * coarser[below[i] + 1]`.

    Attributes:
        size: Pixels of this level.
        start: (size,) first finer pixel under the taps.
        weights: (taps, size).
        below: (size,) coarser pixel before this one.
        fraction: (size,) distance from it, 0..1.
    """

    size: int
    start: NDArray[np.int32]
    weights: NDArray[np.float32]
    below: NDArray[np.int32]
    fraction: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Level:
    """One level of the pyramid. The finest one has the size of the frame and is only smoothed."""

    rows: LevelAxis
    columns: LevelAxis

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rows.size, self.columns.size


@lru_cache(maxsize=64)
def pyramid(height: int, width: int, scale: float, scales: int, smoothing: float) -> tuple[Level, ...]:
    """Return the levels of the pyramid, finest first.

    Args:
        height: Height of the frame, pixels.
        width: Width of the frame, pixels.
        scale: Size of a level relative to the finer one.
        scales: Largest number of levels.
        smoothing: Sigma of the Gaussian over the frame, pixels.
    """
    shapes = [(height, width)]
    while len(shapes) < scales:
        factor = scale ** len(shapes)
        shape = (round(height * factor), round(width * factor))
        if min(shape) < _MIN_SIDE or shape == shapes[-1]:
            break
        shapes.append(shape)
    finer = [shapes[0], *shapes[:-1]]
    coarser = [*shapes[1:], shapes[-1]]
    return tuple(
        Level(*(_axis(size[k], fine[k], coarse[k], smoothing) for k in range(2)))
        for size, fine, coarse in zip(shapes, finer, coarser, strict=True)
    )


def _axis(size: int, finer: int, coarser: int, smoothing: float) -> LevelAxis:
    """Return the sampling of an axis of `size` pixels, between a finer and a coarser axis of these sizes."""
    ratio = finer / size
    sigma = max(smoothing, 1e-3) if finer == size else _ANTI_ALIAS * ratio
    taps = min(2 * ceil(3 * sigma) + (1 if finer == size else 2), finer)
    centre = (np.arange(size) + 0.5) * ratio - 0.5
    start = np.clip(np.ceil(centre - taps / 2), 0, finer - taps).astype(np.int32)
    distance = start + np.arange(taps)[:, None] - centre
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    weights = (weights / weights.sum(axis=0)).astype(np.float32)
    seen = np.clip((np.arange(size) + 0.5) * coarser / size - 0.5, 0, coarser - 1)
    below = np.clip(np.floor(seen), 0, max(coarser - 2, 0)).astype(np.int32)
    return LevelAxis(size, start, np.ascontiguousarray(weights), below, (seen - below).astype(np.float32))
