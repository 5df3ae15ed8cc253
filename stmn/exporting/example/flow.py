"""TV-L1 optical flow in NumPy: Zach, Pock, Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", 2007.

It is the estimator that the model was trained with, in the same steps. Arrays are (H, W) float32; a field is (2, H, W).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.flow._pyramid import Level, LevelAxis, pyramid

Array = NDArray[Any]

#: pixels to either side that a spline coefficient is computed from
_REACH = 10


def tvl1(
    first: Array, second: Array, lambda_: float = 0.15, theta: float = 0.3, tau: float = 0.25, scale: float = 0.5,
    scales: int = 8, warps: int = 3, iterations: int = 12, median: int = 3, smoothing: float = 0.45,
    epsilon: float = 0.01,
) -> Array:  # fmt: skip
    """Displacement (2, H, W) of every pixel, in pixels: u to the right, v downward.

    Args:
        first: (H, W) grey frame in 0..255.
        second: The frame after it.
    """
    levels = pyramid(*first.shape, scale, scales, smoothing)
    image, frames = np.stack([first, second]).astype(np.float32), []
    for level in levels:
        image = _shrink(_shrink(image, level.rows, -2), level.columns, -1)
        frames.append(image)
    flow = np.zeros((2, *levels[-1].shape), np.float32)
    dual = np.zeros((2, 2, *levels[-1].shape), np.float32)
    for level, (one, other) in zip(reversed(levels), reversed(frames), strict=True):
        if level.shape != flow.shape[-2:]:
            height, width = flow.shape[-2:]
            ratio = np.array([level.columns.size / width, level.rows.size / height], np.float32)
            flow, dual = _enlarge(flow * ratio[:, None, None], level), _enlarge(dual, level)
        gradient, spline = _differentiate(one), _fit_spline(other)
        for _ in range(warps):
            slope, constant = _linearise(one, gradient, spline, flow)
            fresh, dual = _iterate(flow, dual, slope, constant, lambda_ * theta, theta, tau / theta, iterations)
            fresh = _median(fresh, median)
            change = np.square((fresh - flow).astype(np.float64)).sum() / one.size
            flow = fresh
            if change < epsilon**2:
                break
    return flow


def _linearise(first: Array, gradient: Array, spline: Array, flow: Array) -> tuple[Array, Array]:
    """The image difference near a flow, as gradient and constant; both are zero where the flow leaves the frame."""
    height, width = first.shape
    x = np.arange(width, dtype=np.float32) + flow[0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[1]
    inside = ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).astype(np.float32)
    warped, slope = _sample(spline, x.clip(0, width - 1), y.clip(0, height - 1))
    slope = inside * np.float32(0.5) * (slope + gradient)
    return slope, inside * (warped - first) - (slope * flow).sum(axis=0)


def _iterate(
    flow: Array, dual: Array, gradient: Array, constant: Array, bound: Any, theta: Any, rate: Any, iterations: int
) -> tuple[Array, Array]:
    """The inner iterations of one warp."""
    bound, theta, rate = np.float32(bound), np.float32(theta), np.float32(rate)
    inverse = 1 / np.maximum(np.square(gradient).sum(axis=0), np.float32(1e-6))
    for _ in range(iterations):
        rho = constant + (gradient * flow).sum(axis=0)
        flow = flow - (rho * inverse).clip(-bound, bound) * gradient + theta * _divergence(dual)
        dual = dual + rate * _differences(flow)
        dual = dual / np.sqrt(np.maximum(np.square(dual).sum(axis=1, keepdims=True), 1))
    return flow, dual


def _differences(field: Array) -> Array:
    """Forward differences along x and y, (2, 2, H, W); zero at the far border."""
    out = np.zeros((2, 2, *field.shape[1:]), np.float32)
    out[:, 0, :, :-1] = field[..., 1:] - field[..., :-1]
    out[:, 1, :-1] = field[:, 1:] - field[:, :-1]
    return out


def _divergence(dual: Array) -> Array:
    """Minus the adjoint of the forward differences."""
    out = dual[:, 0] + dual[:, 1]
    out[..., 1:] -= dual[:, 0, :, :-1]
    out[:, 1:] -= dual[:, 1, :-1]
    return out


def _differentiate(image: Array) -> Array:
    """Five-point derivatives along x and y, border repeated."""
    wide = np.pad(image, 2, mode="edge")
    row, column = wide[2:-2], wide[:, 2:-2]
    along_x = 8 * (row[:, 3:-1] - row[:, 1:-3]) - (row[:, 4:] - row[:, :-4])
    along_y = 8 * (column[3:-1] - column[1:-3]) - (column[4:] - column[:-4])
    return np.stack([along_x, along_y]) / np.float32(12)


def _fit_spline(image: Array) -> Array:
    """Coefficients of the cubic B-spline through every pixel (Unser, "Splines: A Perfect Fit", 1999)."""
    inverse = (3**0.5 - 2) ** np.arange(_REACH + 1)
    weights = (inverse / (inverse[0] + 2 * inverse[1:].sum())).astype(np.float32)
    for axis in (0, 1):
        place = np.arange(image.shape[axis])
        total = weights[0] * image
        for k in range(1, _REACH + 1):
            before, after = (image.take(_mirrored(place + step, len(place)), axis) for step in (-k, k))
            total = total + weights[k] * (before + after)
        image = total
    return image


def _mirrored(place: Array, size: int) -> Array:
    """The pixels seen at these places with mirrors at the first and the last pixel."""
    place = place % max(2 * size - 2, 1)
    mirrored: Array = np.where(place < size, place, 2 * size - 2 - place)
    return mirrored


def _sample(spline: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Value (H, W) and gradient (2, H, W) of the spline at x and y."""
    left, top = np.floor(x), np.floor(y)
    (weight_x, slope_x), (weight_y, slope_y) = _cubic(x - left), _cubic(y - top)
    value, along_x, along_y = (np.zeros_like(x) for _ in range(3))
    for j in range(4):
        line = _mirrored(top.astype(np.int64) + j - 1, spline.shape[0])
        inner, inner_slope = np.zeros_like(x), np.zeros_like(x)
        for i in range(4):
            coefficient = spline[line, _mirrored(left.astype(np.int64) + i - 1, spline.shape[1])]
            inner += weight_x[i] * coefficient
            inner_slope += slope_x[i] * coefficient
        value += weight_y[j] * inner
        along_x += weight_y[j] * inner_slope
        along_y += slope_y[j] * inner
    return value, np.stack([along_x, along_y])


def _cubic(t: Array) -> tuple[list[Array], list[Array]]:
    """The weights of four neighbours, at distance t past the second, and their derivatives."""
    s = 1 - t
    weights = [s**3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (4 - 6 * s**2 + 3 * s**3) / 6, t**3 / 6]
    return weights, [-(s**2) / 2, 1.5 * t**2 - 2 * t, 2 * s - 1.5 * s**2, t**2 / 2]


def _median(flow: Array, side: int) -> Array:
    """Median over side x side pixels of each component, border repeated."""
    if side <= 1:
        return flow
    height, width = flow.shape[1:]
    wide = np.pad(flow, ((0, 0), (side // 2,) * 2, (side // 2,) * 2), mode="edge")
    windows = [wide[:, j : j + height, i : i + width] for j in range(side) for i in range(side)]
    middle: Array = np.sort(np.stack(windows), axis=0)[len(windows) // 2]
    return middle


def _shrink(image: Array, axis: LevelAxis, along: int) -> Array:
    """Sample one axis of the finer level."""
    weights = axis.weights[:, :, None] if along == -2 else axis.weights
    total: Array = image.take(axis.start, along) * weights[0]
    for k in range(1, len(weights)):
        total = total + image.take(axis.start + k, along) * weights[k]
    return total


def _enlarge(field: Array, level: Level) -> Array:
    """Sample the coarser level at the pixels of `level`, bilinearly."""
    for axis, along in ((level.rows, -2), (level.columns, -1)):
        fraction = axis.fraction[:, None] if along == -2 else axis.fraction
        low, high = field.take(axis.below, along), field.take(axis.below + 1, along)
        field = low + fraction * (high - low)
    return field
