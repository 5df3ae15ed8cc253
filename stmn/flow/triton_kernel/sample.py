"""Resample one axis of a field: for shrinking, enlarging and fitting splines."""

import triton
import triton.language as tl


@triton.jit
def sample_axis(
    source, out, taps, weights, count, height, width, out_height, out_width, ALONG_X: tl.constexpr, BLOCK: tl.constexpr
):
    """Sample planes along one axis: `out[i] = sum_k weights[k, i] * source[taps[k, i]]`.

    Args:
        source: (planes, height, width).
        out: (planes, out_height, out_width); it differs from `source` along one axis.
        taps: (count, size) int32, source pixels for each of the `size` pixels of `out` along the axis.
        weights: (count, size).
        ALONG_X: Sample along the last axis; otherwise the one before.
        BLOCK: Pixels of a tile.
    """
    plane = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < out_height * out_width
    y, x = at // out_width, at % out_width
    place, size = (x, out_width) if ALONG_X else (y, out_height)
    source += plane * height * width
    total = tl.zeros((BLOCK,), tl.float32)
    for k in range(count):
        tap = tl.load(taps + k * size + place, inside, other=0)
        weight = tl.load(weights + k * size + place, inside, other=0)
        pixel = y * width + tap if ALONG_X else tap * width + x
        total += weight * tl.load(source + pixel, inside, other=0)
    tl.store(out + plane * out_height * out_width + at, total, inside)
