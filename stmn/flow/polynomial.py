"""Optical flow by polynomial expansion (Farneback, SCIA 2003), scale by scale, for callers with scales of their own.

An image is expanded once, for the pair that it ends and the pair that it begins. `stmn.flow.opencv.farneback` is the
flow plugin. The image is not smoothed before it is expanded, as OpenCV does; on the Middlebury pairs that is better.
"""

import numpy as np
from numpy.typing import NDArray

from stmn.flow import _farneback_c

#: the most pixels to either side that a polynomial is fitted to, and that a window reaches
MAX_REACH = 15


def expand(grey: NDArray[np.uint8], reach: int, sigma: float) -> NDArray[np.float32]:
    """Fit a quadratic polynomial around each pixel.

    Args:
        grey: (H, W).
        reach: Pixels to either side that count, at most `MAX_REACH`.
        sigma: Sigma of the Gaussian that weights them, pixels.

    Returns:
        (H, W, 5 or more): the factors of x, y, x^2, y^2 and xy.
    """
    if _farneback_c.problem() is None:
        return _farneback_c.expand(grey, reach, sigma)
    from stmn.flow import _farneback_numpy  # SciPy takes long to import

    return _farneback_numpy.expand(grey, reach, sigma)


def flow_between(
    first: NDArray[np.float32], second: NDArray[np.float32], coarse: NDArray[np.float32] | None,
    window: int, iterations: int, median: int,
) -> NDArray[np.float32]:  # fmt: skip
    """Estimate the flow between two images at one scale.

    Args:
        first: What `expand` made of the first image.
        second: What it made of the second.
        coarse: (2, h, w) the flow at a coarser scale, pixels of that scale, to start from; None for zero.
        window: Side of the window that the fit is averaged over, pixels, at most 2 `MAX_REACH`.
        iterations: How often the second image's polynomials are read where the flow points to.
        median: Side of the median filter over the flow: 3, 5, or 0 for none.

    Returns:
        (2, H, W) pixels.
    """
    if _farneback_c.problem() is None:
        return _farneback_c.flow_between(first, second, coarse, window, iterations, median)
    from stmn.flow import _farneback_numpy

    return _farneback_numpy.flow_between(first, second, coarse, window, iterations, median)


def kernel_problem() -> str | None:
    """Return why there is no C kernel here; None if there is one. The first call may compile it, in 1 to 2 seconds."""
    return _farneback_c.problem()
