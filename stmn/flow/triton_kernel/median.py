"""The last step of a warp: a median filter as a network of minima and maxima, and a check for convergence."""

import triton
import triton.language as tl


@triton.jit
def _sort2(a, b):
    return tl.minimum(a, b), tl.maximum(a, b)


@triton.jit
def _sort3(a, b, c):
    a, b = _sort2(a, b)
    b, c = _sort2(b, c)
    a, b = _sort2(a, b)
    return a, b, c


@triton.jit
def _sort5(a, b, c, d, e):
    a, b = _sort2(a, b)
    d, e = _sort2(d, e)
    c, e = _sort2(c, e)
    c, d = _sort2(c, d)
    b, e = _sort2(b, e)
    a, d = _sort2(a, d)
    a, c = _sort2(a, c)
    b, d = _sort2(b, d)
    b, c = _sort2(b, c)
    return a, b, c, d, e


@triton.jit
def _ends3(a, b, c):
    """Move the smallest value to the first place and the largest to the last; the next functions do the same."""
    b, c = _sort2(b, c)
    a, b = _sort2(a, b)
    b, c = _sort2(b, c)
    return a, b, c


@triton.jit
def _ends4(a, b, c, d):
    a, b = _sort2(a, b)
    c, d = _sort2(c, d)
    a, c = _sort2(a, c)
    b, d = _sort2(b, d)
    return a, b, c, d


@triton.jit
def _ends5(a, b, c, d, e):
    a, b, c, d = _ends4(a, b, c, d)
    a, e = _sort2(a, e)
    d, e = _sort2(d, e)
    return a, b, c, d, e


@triton.jit
def _ends6(a, b, c, d, e, f):
    a, b, c, d, e = _ends5(a, b, c, d, e)
    a, f = _sort2(a, f)
    e, f = _sort2(e, f)
    return a, b, c, d, e, f


@triton.jit
def _ends7(a, b, c, d, e, f, g):
    a, b, c, d, e, f = _ends6(a, b, c, d, e, f)
    a, g = _sort2(a, g)
    f, g = _sort2(f, g)
    return a, b, c, d, e, f, g


@triton.jit
def _ends8(a, b, c, d, e, f, g, h):
    a, b, c, d, e, f, g = _ends7(a, b, c, d, e, f, g)
    a, h = _sort2(a, h)
    g, h = _sort2(g, h)
    return a, b, c, d, e, f, g, h


@triton.jit
def _column(line0, line1, line2, shift, inside):
    """Three pixels of a column, sorted."""
    return _sort3(
        tl.load(line0 + shift, inside, other=0),
        tl.load(line1 + shift, inside, other=0),
        tl.load(line2 + shift, inside, other=0),
    )


@triton.jit
def _median3(plane, row, column, height, width, inside):
    """Median of 3 x 3, border repeated: of the largest low, the middle mid and the smallest high of the columns."""
    line0 = plane + tl.maximum(row - 1, 0) * width
    line1 = plane + row * width
    line2 = plane + tl.minimum(row + 1, height - 1) * width
    low0, mid0, high0 = _column(line0, line1, line2, tl.maximum(column - 1, 0), inside)
    low1, mid1, high1 = _column(line0, line1, line2, column, inside)
    low2, mid2, high2 = _column(line0, line1, line2, tl.minimum(column + 1, width - 1), inside)
    low = tl.maximum(tl.maximum(low0, low1), low2)
    high = tl.minimum(tl.minimum(high0, high1), high2)
    mid0, mid1, mid2 = _sort3(mid0, mid1, mid2)
    low, mid, high = _sort3(low, mid1, high)
    return mid


@triton.jit
def _column5(plane, row, x, height, width, inside):
    """Five pixels of a column, sorted."""
    return _sort5(
        tl.load(plane + tl.maximum(row - 2, 0) * width + x, inside, other=0),
        tl.load(plane + tl.maximum(row - 1, 0) * width + x, inside, other=0),
        tl.load(plane + row * width + x, inside, other=0),
        tl.load(plane + tl.minimum(row + 1, height - 1) * width + x, inside, other=0),
        tl.load(plane + tl.minimum(row + 2, height - 1) * width + x, inside, other=0),
    )


@triton.jit
def _median5(plane, row, column, height, width, inside):
    """Median of 5 x 5, border repeated, from the 13 candidates that `kernel/median.h` explains."""
    a1, b1, c1, d1, e1 = _column5(plane, row, tl.maximum(column - 2, 0), height, width, inside)
    a2, b2, c2, d2, e2 = _column5(plane, row, tl.maximum(column - 1, 0), height, width, inside)
    a3, b3, c3, d3, e3 = _column5(plane, row, column, height, width, inside)
    a4, b4, c4, d4, e4 = _column5(plane, row, tl.minimum(column + 1, width - 1), height, width, inside)
    a5, b5, c5, d5, e5 = _column5(plane, row, tl.minimum(column + 2, width - 1), height, width, inside)
    a1, a2, a3, a4, a5 = _sort5(a1, a2, a3, a4, a5)
    b1, b2, b3, b4, b5 = _sort5(b1, b2, b3, b4, b5)
    c1, c2, c3, c4, c5 = _sort5(c1, c2, c3, c4, c5)
    d1, d2, d3, d4, d5 = _sort5(d1, d2, d3, d4, d5)
    e1, e2, e3, e4, e5 = _sort5(e1, e2, e3, e4, e5)
    a4, a5, b3, b4, d2, d3, e1, e2 = _ends8(a4, a5, b3, b4, d2, d3, e1, e2)
    a5, b3, b4, d2, d3, e1, b5 = _ends7(a5, b3, b4, d2, d3, e1, b5)
    b3, b4, d2, d3, e1, d1 = _ends6(b3, b4, d2, d3, e1, d1)
    b4, d2, d3, e1, c2 = _ends5(b4, d2, d3, e1, c2)
    d2, d3, e1, c4 = _ends4(d2, d3, e1, c4)
    d3, e1, c3 = _ends3(d3, e1, c3)
    return e1


@triton.jit
def update(fresh, flow, change, moving, height, width, MEDIAN: tl.constexpr, BLOCK: tl.constexpr):
    """Median-filter the new flow into the flow, and sum the squared change of each tile.

    Args:
        fresh: (B, 2, H, W), the flow after the iterations.
        flow: (B, 2, H, W), the flow before them; overwritten.
        change: (B, tiles), written.
        moving: (B,) int32.
        MEDIAN: Side of the window: 3, 5, or less for none.
        BLOCK: Pixels of a tile.
    """
    pair = tl.program_id(1).to(tl.int64)
    if tl.load(moving + pair) == 0:
        return
    pixels = height * width
    tile = tl.program_id(0)
    at = tile * BLOCK + tl.arange(0, BLOCK)
    inside = at < pixels
    row, column = at // width, at % width
    total = tl.zeros((BLOCK,), tl.float32)
    for c in tl.static_range(2):
        plane, old = fresh + (pair * 2 + c) * pixels, flow + (pair * 2 + c) * pixels + at
        if MEDIAN == 3:
            new = _median3(plane, row, column, height, width, inside)
        elif MEDIAN == 5:
            new = _median5(plane, row, column, height, width, inside)
        else:
            new = tl.load(plane + at, inside, other=0)
        difference = tl.where(inside, new - tl.load(old, inside, other=0), 0.0)
        total += difference * difference
        tl.store(old, new, inside)
    tl.store(change + pair * tl.num_programs(0) + tile, tl.sum(total, 0))


@triton.jit
def settle(change, moving, tiles, least, BLOCK: tl.constexpr):
    """Set `moving` to 0 for pairs whose squared flow change, summed over pixels, is less than `least`.

    The tiles are summed in a fixed order, so that a pair's flow is reproducible.

    Args:
        change: (B, tiles).
        moving: (B,) int32, 0 or 1; overwritten.
        BLOCK: Tiles added at a time.
    """
    pair = tl.program_id(0).to(tl.int64)
    if tl.load(moving + pair) == 0:
        return
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, tiles, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        total += tl.load(change + pair * tiles + tile, tile < tiles, other=0)
    tl.store(moving + pair, (tl.sum(total, 0) >= least).to(tl.int32))
