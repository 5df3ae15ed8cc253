"""Histograms of patches in NumPy: the reference, and used on machines without a C compiler."""

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories.layout import CELL, DIRECTIONS, EPSILON, LIMITS, STILL, Layout
from stmn.idt.trajectories.pyramid import Field, Grey

#: atan(t) = pi / 4 * (A1 t + A3 t^3 + ...) for t in 0..1, off by less than 3e-6
ARCTANGENT = np.array([1.2732105, -0.42350852, 0.24642316, -0.14823855, 0.06703242, -0.01492116], np.float32)


def describe(
    grey: Grey, field: Field, corners: NDArray[np.int32], layout: Layout, sums: Field, rows: NDArray[np.int32]
) -> None:
    """As `stmn.idt.trajectories.histograms.describe`."""
    if not len(rows):
        return
    integral = np.zeros((grey.shape[0] + 1, grey.shape[1] + 1, CELL), np.int32)
    integral[1:, 1:] = np.cumsum(np.cumsum(_bin(grey, field, layout), axis=0, dtype=np.int32), axis=1, dtype=np.int32)
    side = layout.patch // layout.cells
    x, y = corners.T
    cells = []
    for column in range(layout.cells):
        for line in range(layout.cells):
            left, top = x + column * side, y + line * side
            right, bottom = left + side, top + side
            cells.append(integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left])
    counts = np.stack(cells, axis=1).astype(np.float32)
    described = np.empty((len(rows), layout.cells**2, CELL), np.float32)
    for k, part in enumerate(_parts()):
        values = counts[..., part] / layout.units[k]
        if k == 1:
            values[..., -1] = counts[..., -1]
        values += np.float32(EPSILON)
        described[..., part] = np.sqrt(values / values.sum(axis=(1, 2), keepdims=True))
    sums[rows] += described.reshape(len(rows), -1)


def _parts() -> list[list[int]]:
    """The indices of a cell's numbers for HOG, HOF, MBHx and MBHy each."""
    parts = [list(range(k * DIRECTIONS, (k + 1) * DIRECTIONS)) for k in range(4)]
    parts[1].append(CELL - 1)
    return parts


def _bin(grey: Grey, field: Field, layout: Layout) -> NDArray[np.int32]:
    """(H, W, CELL): what each pixel adds to each bin."""
    u, v = field
    bins = np.zeros((*grey.shape, CELL), np.int32)
    speed = np.sqrt(u * u + v * v)
    moving = speed > np.float32(STILL)
    bins[..., -1] = ~moving
    vectors = [_gradient(grey.astype(np.float32)), (u, v), _gradient(u), _gradient(v)]
    for k, (x, y) in enumerate(vectors):
        length = np.minimum(np.sqrt(x * x + y * y), np.float32(LIMITS[k])) * layout.units[k]
        if k == 1:
            length = np.where(moving, length, np.float32(0))
        away = np.abs(direction(x, y)[..., None] - np.arange(DIRECTIONS, dtype=np.float32))
        near = np.maximum(1 - np.minimum(away, DIRECTIONS - away), np.float32(0))
        bins[..., k * DIRECTIONS : (k + 1) * DIRECTIONS] = length[..., None] * near + np.float32(0.5)
    return bins


def direction(x: Field, y: Field) -> Field:
    """Directions of vectors, 0..8 clockwise from the x axis (y is downwards); 0 for the zero vector."""
    wide, high = np.abs(x), np.abs(y)
    t = np.minimum(wide, high) / np.maximum(np.maximum(wide, high), np.float32(1e-30))
    square = t * t
    angle = np.full_like(t, ARCTANGENT[-1])
    for factor in ARCTANGENT[-2::-1]:
        angle = angle * square + factor
    angle = angle * t
    angle = np.where(high > wide, 2 - angle, angle)
    angle = np.where(x < 0, 4 - angle, angle)
    turned: Field = np.where(y < 0, 8 - angle, angle)
    return turned


def _gradient(plane: Field) -> tuple[Field, Field]:
    """Differences between each pixel's neighbours along x and y; zero at the border."""
    x, y = np.zeros_like(plane), np.zeros_like(plane)
    x[:, 1:-1] = plane[:, 2:] - plane[:, :-2]
    y[1:-1] = plane[2:] - plane[:-2]
    return x, y
