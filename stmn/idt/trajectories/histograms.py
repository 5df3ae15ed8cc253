"""Histograms of the patches around tracks: HOG, HOF and MBH of one frame."""

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories import _histograms_c, _histograms_numpy
from stmn.idt.trajectories.layout import Layout
from stmn.idt.trajectories.pyramid import Field, Grey


def describe(
    grey: Grey, field: Field, corners: NDArray[np.int32], layout: Layout, sums: Field, rows: NDArray[np.int32]
) -> None:
    """Add the descriptors of patches in one frame to sums.

    Args:
        grey: (H, W) the frame.
        field: (2, H, W) flow without camera motion, pixels.
        corners: (N, 2) x and y of the upper left pixel of each patch, which lies inside the frame.
        layout: Layout of the histograms.
        sums: (M, `layout.numbers`), added to. For each column of cells, and each cell in it: the directions of HOG,
            HOF, MBHx and MBHy, then HOF's bin of no motion. Each of the four has L1 norm 1 before its square root is
            taken.
        rows: (N,) the row of `sums` for each patch; no two are the same.
    """
    way = _histograms_numpy if _histograms_c.problem() else _histograms_c
    way.describe(grey, field, corners, layout, sums, rows)
