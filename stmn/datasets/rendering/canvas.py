"""Elements of rendered videos: textures, and colours whose hue grey pictures don't show."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def draw_texture(rng: Generator, size: int, grain: float) -> Array:
    """Draw smooth noise (size, size) of mean 0 and deviation about 1, with features of about `grain` pixels or less."""
    total = np.zeros((size, size))
    for octave in range(3):
        cells = max(2, round(size / grain * 2**octave)) + 1
        coarse = rng.normal(0, 1, (cells, cells))
        at = np.linspace(0, cells - 1.001, size)
        low, part = at.astype(int), at % 1
        rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
        total += (rows[:, low] * (1 - part) + rows[:, low + 1] * part) / 2**octave
    return total / max(float(total.std()), 1e-6)


def colour_of(rng: Generator, hue: float) -> Array:
    """Draw an RGB colour of a hue and any luma; the hue is an angle in the Cb-Cr plane (red is at 100 degrees)."""
    luma, chroma = rng.uniform(95, 140), rng.uniform(35, 45)  # no channel clips, which would betray the hue
    cb, cr = chroma * np.cos(hue), chroma * np.sin(hue)
    return np.array([luma + 1.402 * cr, luma - 0.344 * cb - 0.714 * cr, luma + 1.772 * cb])
