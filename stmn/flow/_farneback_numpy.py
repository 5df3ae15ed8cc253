"""Farneback's flow in NumPy: the reference, and the fallback without a C compiler."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, median_filter, uniform_filter1d

from stmn.flow._farneback_fit import fit_weights

#: weights of pixels that are 0 to 4 pixels from the border: their fit saw repeated border pixels
_CERTAINTY = np.array([0.14, 0.14, 0.4472, 0.4472, 0.4472], np.float32)
#: keeps the solution finite where the image is uniform
_EPSILON = 1e-3

Plane = NDArray[np.float32]


def expand(grey: NDArray[np.uint8], reach: int, sigma: float) -> Plane:
    """As `stmn.flow.polynomial.expand`."""
    weights, factors = fit_weights(reach, sigma)
    weights = weights[:, ::-1]  # to correlate, not to convolve
    image = grey.astype(np.float32)
    one, y, yy = (convolve1d(image, w, axis=0, mode="nearest") for w in weights)
    in_x, in_y = (convolve1d(a, w, axis=1, mode="nearest") for a, w in ((one, weights[1]), (y, weights[0])))
    level = convolve1d(one, weights[0], axis=1, mode="nearest") * factors[1]
    in_xx = level + convolve1d(one, weights[2], axis=1, mode="nearest") * factors[2]
    in_yy = level + convolve1d(yy, weights[0], axis=1, mode="nearest") * factors[2]
    in_xy = convolve1d(y, weights[1], axis=1, mode="nearest") * factors[3]
    return np.stack([in_x * factors[0], in_y * factors[0], in_xx, in_yy, in_xy], axis=2).astype(np.float32)


def flow_between(first: Plane, second: Plane, coarse: Plane | None, window: int, iterations: int, median: int) -> Plane:
    """As `stmn.flow.polynomial.flow_between`."""
    height, width = first.shape[:2]
    first, second = first.transpose(2, 0, 1), second.transpose(2, 0, 1)
    flow = np.zeros((2, height, width), np.float32) if coarse is None else _enlarge(coarse, height, width)
    for _ in range(iterations):
        products = _multiply(first, second, flow)
        side = 2 * (window // 2) + 1
        for axis in (1, 2):
            products = uniform_filter1d(products, side, axis=axis, mode="nearest")
        xx, xy, yy, x, y = products * np.float32((side / window) ** 2)
        flow = np.stack([yy * x - xy * y, xx * y - xy * x]) / (xx * yy - xy * xy + np.float32(_EPSILON))
    if median:
        flow = np.stack([median_filter(plane, median, mode="nearest") for plane in flow])
    return flow.astype(np.float32)


def _multiply(first: Plane, second: Plane, flow: Plane) -> Plane:
    """Compute (5, H, W): A.A (xx, xy, yy) and A.db (x, y); their averages give the flow."""
    height, width = flow.shape[1:]
    ys, xs = np.mgrid[:height, :width]
    u, v = flow
    left, top = np.floor(xs + u).astype(int), np.floor(ys + v).astype(int)
    inside = (left >= 0) & (left < width - 1) & (top >= 0) & (top < height - 1)
    left, top = left.clip(0, width - 2), top.clip(0, height - 2)
    fx, fy = (xs + u - left).astype(np.float32), (ys + v - top).astype(np.float32)
    read = (
        (1 - fx) * (1 - fy) * second[:, top, left] + fx * (1 - fy) * second[:, top, left + 1]
        + (1 - fx) * fy * second[:, top + 1, left] + fx * fy * second[:, top + 1, left + 1]
    )  # fmt: skip
    bx, by = np.where(inside, first[:2] - read[:2], first[:2]) / 2
    xx, yy, xy = np.where(inside, (first[2:] + read[2:]) / 2, first[2:])
    xy = xy / 2
    bx, by = bx + xx * u + xy * v, by + xy * u + yy * v
    trust = _certainty(height)[:, None] * _certainty(width)
    xx, xy, yy, bx, by = (trust * a for a in (xx, xy, yy, bx, by))
    return np.stack([xx * xx + xy * xy, xy * (xx + yy), yy * yy + xy * xy, xx * bx + xy * by, xy * bx + yy * by])


def _certainty(size: int) -> Plane:
    """Return the weights of the pixels of a row or column."""
    trust = np.ones(size, np.float32)
    near = min(len(_CERTAINTY), size)
    trust[:near] *= _CERTAINTY[:near]
    trust[::-1][:near] *= _CERTAINTY[:near]
    return trust


def _enlarge(flow: Plane, height: int, width: int) -> Plane:
    """Interpolate flow at a finer scale, in pixels of that scale."""
    for axis, size in ((1, height), (2, width)):
        old = flow.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * (old / size) - 0.5, 0, old - 1)
        before = np.clip(at.astype(int), 0, old - 2)
        past = (at - before).reshape((-1, 1) if axis == 1 else (1, -1))
        flow = flow.take(before, axis) * (1 - past) + flow.take(before + 1, axis) * past
        flow[2 - axis] *= size / old
    return flow.astype(np.float32)
