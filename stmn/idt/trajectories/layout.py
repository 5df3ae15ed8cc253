"""How the histograms of a patch are laid out: cells, bins, and whole numbers instead of fractions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories.parameters import TrackParameters

#: directions of each of HOG, HOF, MBHx and MBHy
DIRECTIONS = 8
#: numbers of a cell: the directions of all four, then HOF's bin of no motion
CELL = 4 * DIRECTIONS + 1
#: flow of at most this many pixels is no motion
STILL = 0.4
#: added to every bin
EPSILON = 0.05
#: the largest magnitude of each of the four: grey values, pixels of flow, and its change from pixel to pixel twice.
#: Larger ones, which only broken flow has, count as this
LIMITS = (512.0, 512.0, 128.0, 128.0)


@dataclass(frozen=True)
class Layout:
    """Sizes and units of the histograms.

    Histograms are summed up as whole numbers of 32 bits, so that sums over any rectangle are exact, in any order of
    computing, although sums over the whole frame may overflow.

    Attributes:
        patch: Side of a patch, pixels.
        cells: Cells along either side.
    """

    patch: int
    cells: int

    @classmethod
    def of(cls, parameters: TrackParameters) -> "Layout":
        """The layout that parameters ask for."""
        return cls(parameters.patch, parameters.cells)

    @property
    def units(self) -> NDArray[np.float32]:
        """(4,) whole numbers per unit of magnitude: as many as a cell full of the largest magnitude allows."""
        area = (self.patch // self.cells) ** 2
        return np.array([2.0 ** np.floor(np.log2((2**31 - 1) / (limit * area))) for limit in LIMITS], np.float32)

    @property
    def numbers(self) -> int:
        """Numbers that describe a patch in one frame."""
        return self.cells**2 * CELL
