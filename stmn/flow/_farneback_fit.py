"""The weighted least squares fit of a quadratic polynomial to an image."""

import numpy as np
from numpy.typing import NDArray


def fit_weights(reach: int, sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weighted least squares fit of f(x) = c + b.x + x.A x to the pixels around a pixel.

    Returns:
        (3, 2 reach + 1) weights: a Gaussian g, x g and x^2 g; and four numbers that turn sums with these weights into
        coefficients: of x (and y), of x^2 from the sum with g, of x^2 from the sum with x^2 g, and of xy.
    """
    x = np.arange(-reach, reach + 1)
    g = np.exp(-(x**2) / (2 * sigma**2))
    g /= g.sum()
    xs, ys = (a.ravel() for a in np.meshgrid(x, x))
    basis = np.stack([np.ones_like(xs), xs, ys, xs**2, ys**2, xs * ys])
    inverse = np.linalg.inv((basis * np.outer(g, g).ravel()) @ basis.T)
    return np.stack([g, x * g, x**2 * g]), inverse[[1, 0, 3, 5], [1, 3, 3, 5]]
