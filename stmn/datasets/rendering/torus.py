"""Discs that move over a textured ground on a torus: what leaves the frame on one side returns on the other.

So every position is equally likely at every time, whatever the motion, and none says anything about a direction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.rendering.canvas import Array, Mask, colour_of


@dataclass(frozen=True)
class Disc:
    """A disc.

    Attributes:
        track: (frames, 2) its centre's x and y at each time, in pixels, modulo the size of the torus.
        radius: Pixels.
        colour: (3,) RGB levels.
        surface: (size, size) levels that are added to the colour and move with the disc.
    """

    track: Array
    radius: float
    colour: Array
    surface: Array


def draw_disc(rng: Generator, travel: Array, radius: float, hue: float, size: int) -> Disc:
    """Draw a disc of a hue (`colour_of`) that starts anywhere and travels (frames, 2) pixels from there."""
    surface = draw_tile(rng, size, size / 8) * rng.uniform(8, 16)
    return Disc(rng.uniform(0, size, 2) + travel, radius, colour_of(rng, hue), surface)


def find_discs(discs: Sequence[Disc], size: int, times: Sequence[int]) -> list[Mask]:
    """Return where each disc is visible at some times, (times, size, size) each, not covered by discs above it."""
    free = np.ones((len(times), size, size), bool)
    found: list[Mask] = []
    for disc in reversed(discs):
        inside = np.stack([_distances(disc, t, size) <= disc.radius for t in times]) if len(times) else free
        found.insert(0, inside & free)
        free = free & ~inside
    return found


def render_discs(rng: Generator, discs: Sequence[Disc], camera: Array, size: int) -> Iterator[NDArray[np.uint8]]:
    """Render discs, the first one lowest, over a textured ground that moves along `camera`, (frames, 2) pixels.

    Yields:
        The frames, (size, size, 3) RGB uint8.
    """
    grey = draw_tile(rng, size, size / 4)[..., None] * rng.uniform(15, 45) + rng.uniform(60, 190)
    ground = grey + draw_tile(rng, size, size / 2)[..., None] * rng.uniform(-12, 12, 3)
    noise = rng.uniform(0, 4)
    for t, moved in enumerate(camera):
        picture = _shift_tile(ground, *moved)
        for disc in discs:
            cover = np.clip(disc.radius + 0.5 - _distances(disc, t, size), 0, 1)[..., None]
            picture += cover * (disc.colour + _shift_tile(disc.surface, *disc.track[t])[..., None] - picture)
        picture += rng.normal(0, 1, picture.shape) * noise
        yield np.clip(np.round(picture), 0, 255).astype(np.uint8)


def draw_tile(rng: Generator, size: int, grain: float) -> Array:
    """Draw smooth noise (size, size) that tiles seamlessly; mean 0, deviation about 1, features of about `grain`."""
    total = np.zeros((size, size))
    for octave in range(3):
        cells = max(2, round(size / grain * 2**octave))
        coarse = rng.normal(0, 1, (cells, cells))
        low, part = np.divmod(np.arange(size) * cells / size, 1)
        low = low.astype(int)
        rows = coarse[low] * (1 - part)[:, None] + coarse[(low + 1) % cells] * part[:, None]
        total += (rows[:, low] * (1 - part) + rows[:, (low + 1) % cells] * part) / 2**octave
    tile: Array = (total - total.mean()) / max(float(total.std()), 1e-6)
    return tile


def _shift_tile(tile: Array, x: float, y: float) -> Array:
    """Return a tile (size, size, ...) moved by x and y pixels, with subpixel accuracy."""
    column, row = int(np.floor(x)), int(np.floor(y))
    whole = np.roll(tile, (row, column), (0, 1))
    rows = whole * (1 - (y - row)) + np.roll(whole, 1, 0) * (y - row)
    moved: Array = rows * (1 - (x - column)) + np.roll(rows, 1, 1) * (x - column)
    return moved


def _distances(disc: Disc, t: int, size: int) -> Array:
    """Return the shortest distance of each pixel to a disc's centre on the torus at time t, (size, size)."""
    x, y = (np.abs((np.arange(size) - at + size / 2) % size - size / 2) for at in disc.track[t])
    apart: Array = np.hypot(x, y[:, None])
    return apart
