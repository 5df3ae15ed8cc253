"""The layout of a patch's histograms: cells, bins, and the integer units of their sums."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories.parameters import TrackParameters

#: directions in each of HOG, HOF, MBHx and MBHy
DIRECTIONS = 8
#: numbers per cell: the directions of all four, then HOF's bin of no motion
CELL = 4 * DIRECTIONS + 1
#: flow of at most this many pixels counts as no motion
STILL = 0.4
#: added to every bin
EPSILON = 0.05
#: the largest magnitudes: of HOG grey values, of HOF pixels of flow, of MBHx and MBHy its change from pixel to pixel.
#: Larger ones, which only broken flow has, are clipped
LIMITS = (512.0, 512.0, 128.0, 128.0)


@dataclass(frozen=True)
class Layout:
    """Sizes and units of the histograms.

    Histograms are summed as 32-bit integers, so that the sum over any patch is exact, in any order, even if sums over
    the whole frame overflow.

    Attributes:
        patch: Side of a patch, pixels.
        cells: Cells along each side.
    """

    patch: int
    cells: int

    @classmethod
    def of(cls, parameters: TrackParameters) -> "Layout":
        """The layout for some parameters."""
        return cls(parameters.patch, parameters.cells)

    @property
    def units(self) -> NDArray[np.float32]:
        """(4,) integer steps per unit of magnitude: as many as a cell full of the largest magnitude allows."""
        area = (self.patch // self.cells) ** 2
        return np.array([2.0 ** np.floor(np.log2((2**31 - 1) / (limit * area))) for limit in LIMITS], np.float32)

    @property
    def numbers(self) -> int:
        """How many numbers describe a patch in one frame."""
        return self.cells**2 * CELL
