"""Optical flow by polynomial expansion (Farneback, SCIA 2003), one scale per call, for callers with their own scales.

An image is expanded once for the two pairs that it belongs to. `stmn.flow.opencv.farneback` is the flow plugin. Unlike
in OpenCV, the image is not smoothed before it is expanded; on the Middlebury pairs that is better.
"""

import numpy as np
from numpy.typing import NDArray

from stmn.flow import _farneback_c

#: largest reach on either side of a polynomial's fit, and of a window, in pixels
MAX_REACH = 15


def expand(grey: NDArray[np.uint8], reach: int, sigma: float) -> NDArray[np.float32]:
    """Fit a quadratic polynomial around each pixel.

    Args:
        grey: (H, W).
        reach: Pixels on either side that are fitted, at most `MAX_REACH`.
        sigma: Sigma of the Gaussian that weights them, pixels.

    Returns:
        (H, W, 5 or more): the coefficients of x, y, x^2, y^2 and xy.
    """
    if _farneback_c.problem() is None:
        return _farneback_c.expand(grey, reach, sigma)
    from stmn.flow import _farneback_numpy  # SciPy is slow to import

    return _farneback_numpy.expand(grey, reach, sigma)


def flow_between(
    first: NDArray[np.float32], second: NDArray[np.float32], coarse: NDArray[np.float32] | None,
    window: int, iterations: int, median: int,
) -> NDArray[np.float32]:  # fmt: skip
    """Estimate the flow between two images at one scale.

    Args:
        first: Result of `expand` for the first image.
        second: Result of `expand` for the second image.
        coarse: (2, h, w) initial flow from a coarser scale, in pixels of that scale; None for zero.
        window: Side of the window that the fit is averaged over, pixels, at most 2 `MAX_REACH`.
        iterations: Number of iterations; each reads the second image's polynomials where the flow points to.
        median: Side of the median filter over the flow: 3, 5, or 0 for none.

    Returns:
        (2, H, W) pixels.
    """
    if _farneback_c.problem() is None:
        return _farneback_c.flow_between(first, second, coarse, window, iterations, median)
    from stmn.flow import _farneback_numpy

    return _farneback_numpy.flow_between(first, second, coarse, window, iterations, median)


def kernel_problem() -> str | None:
    """Return why there is no C kernel; None if there is one. The first call may compile it, in 1 to 2 seconds."""
    return _farneback_c.problem()
