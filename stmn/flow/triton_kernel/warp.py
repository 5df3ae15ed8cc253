"""The data term of a warp: the second frame, sampled where the flow points to."""

import triton
import triton.language as tl


@triton.jit
def _mirrored(place, size):
    """Map a place, at most one period outside, to a pixel, mirrored at the first and the last pixel."""
    period = tl.maximum(2 * size - 2, 1)
    place = (place + 2 * period) % period
    return tl.where(place < size, place, period - place)


@triton.jit
def _cubic(t, J: tl.constexpr):
    """The cubic B-spline's weight of neighbour J of four, at distance t past the second, and its t-derivative."""
    s = 1 - t
    if J == 0:
        return s * s * s / 6, -s * s / 2
    if J == 1:
        return (4 - 6 * t * t + 3 * t * t * t) / 6, 1.5 * t * t - 2 * t
    if J == 2:
        return (4 - 6 * s * s + 3 * s * s * s) / 6, 2 * s - 1.5 * s * s
    return t * t * t / 6, t * t / 2


@triton.jit
def _slope(image, before2, before1, after1, after2, inside):
    """Five-point derivative from four pixels of an image."""
    near = tl.load(image + after1, inside, other=0) - tl.load(image + before1, inside, other=0)
    far = tl.load(image + after2, inside, other=0) - tl.load(image + before2, inside, other=0)
    return (8 * near - far) / 12


@triton.jit
def linearise(first, spline, flow, linear, moving, height, width, BLOCK: tl.constexpr):
    """Equation (2): write gradient and constant of `rho(f) = constant + <gradient, f>` around the flow.

    Args:
        first: (B, H, W), the first frames.
        spline: (B, H, W), coefficients of the second frames.
        flow: (B, 2, H, W).
        linear: (B, 3, H, W), written: gradient along x and y, constant.
        moving: (B,) int32.
        BLOCK: Pixels of a tile.
    """
    pair = tl.program_id(1).to(tl.int64)
    if tl.load(moving + pair) == 0:
        return
    pixels = height * width
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < pixels
    row, column = at // width, at % width
    first, spline, flow, linear = (
        first + pair * pixels, spline + pair * pixels, flow + pair * 2 * pixels, linear + pair * 3 * pixels
    )  # fmt: skip
    u, v = tl.load(flow + at, inside, other=0), tl.load(flow + pixels + at, inside, other=0)
    x, y = column + u, row + v
    known = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = tl.minimum(tl.maximum(x, 0.0), width - 1.0), tl.minimum(tl.maximum(y, 0.0), height - 1.0)
    left, top = (
        tl.minimum(tl.maximum(x.to(tl.int32), 0), width - 1),
        tl.minimum(tl.maximum(y.to(tl.int32), 0), height - 1),
    )
    tx, ty = x - left, y - top
    value = tl.zeros((BLOCK,), tl.float32)
    along_x, along_y = value, value
    for j in tl.static_range(4):
        line = spline + _mirrored(top + (j - 1), height) * width
        weight_y, slope_y = _cubic(ty, j)
        inner, inner_slope = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
        for i in tl.static_range(4):
            weight_x, slope_x = _cubic(tx, i)
            coefficient = tl.load(line + _mirrored(left + (i - 1), width), inside, other=0)
            inner += weight_x * coefficient
            inner_slope += slope_x * coefficient
        value += weight_y * inner
        along_x += weight_y * inner_slope
        along_y += slope_y * inner
    here = row * width
    before1, before2 = tl.maximum(column - 1, 0), tl.maximum(column - 2, 0)
    after1, after2 = tl.minimum(column + 1, width - 1), tl.minimum(column + 2, width - 1)
    own_x = _slope(first, here + before2, here + before1, here + after1, here + after2, inside)
    before1, before2 = tl.maximum(row - 1, 0), tl.maximum(row - 2, 0)
    after1, after2 = tl.minimum(row + 1, height - 1), tl.minimum(row + 2, height - 1)
    own_y = _slope(
        first, before2 * width + column, before1 * width + column, after1 * width + column, after2 * width + column,
        inside,
    )  # fmt: skip
    gradient_x = tl.where(known, 0.5 * (along_x + own_x), 0.0)
    gradient_y = tl.where(known, 0.5 * (along_y + own_y), 0.0)
    difference = tl.where(known, value - tl.load(first + at, inside, other=0), 0.0)
    tl.store(linear + at, gradient_x, inside)
    tl.store(linear + pixels + at, gradient_y, inside)
    tl.store(linear + 2 * pixels + at, difference - (gradient_x * u + gradient_y * v), inside)
