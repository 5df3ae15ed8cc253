"""Pictures by formulas: fractals and textures whose classes are drawn, not collected.

Fractals are iterated function systems, as in FractalDB (Kataoka et al., ACCV 2020): a class is a few affine maps of the
plane, kept if its picture fills enough of its frame; an instance varies their coefficients. Textures are noise with a
spectrum; a class is a spectrum, an instance is noise. Colours, backgrounds, positions and angles don't depend on class.
"""

from collections.abc import Callable
from functools import lru_cache
from math import log

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.rendering.canvas import Array, draw_texture

Complex = NDArray[np.complex128]
#: draws an instance, (size, size, 3) colours 0..255 and (size, size) cover 0..1
Pattern = Callable[[Generator, int], tuple[Array, Array]]

#: range of the share of a 32 x 32 grid over the picture that a fractal's points touch
_FILLED = (0.15, 0.6)
#: steps of the chaos game before and while points are kept
_SETTLE, _KEPT = 15, 30
#: one pattern in this many is a texture
_TEXTURES = 6


@lru_cache(maxsize=2048)
def make_pattern(seed: int, number: int) -> Pattern:
    """Return pattern `number`, a function of only (seed, number). Every sixth is a texture, the others are fractals."""
    rng = np.random.default_rng([seed, 1_000, number])
    return _draw_spectrum(rng) if number % _TEXTURES == _TEXTURES - 1 else _draw_fractal(rng)


def draw_picture(rng: Generator, pattern: Pattern, size: int) -> Array:
    """Draw an instance of a pattern on an unrelated background, (size, size, 3), 0..255."""
    colours, cover = pattern(rng, size)
    background = rng.uniform(0, 255, 3) + draw_texture(rng, size, size / rng.uniform(1, 8))[..., None] * rng.normal(
        0, 20, 3
    )
    picture = background * (1 - cover[..., None]) + colours * cover[..., None]
    return np.clip(picture + rng.normal(0, 1, picture.shape) * rng.uniform(0, 6), 0, 255)


def _draw_fractal(rng: Generator) -> Pattern:
    """Draw an iterated function system whose points fill a suitable share of its picture."""
    while True:
        # an affine map of the plane in complex numbers: z becomes turn * z + flip * conj(z) + move; it scales by
        # abs(turn) + abs(flip) along one axis and by their difference along the other
        count = int(rng.integers(2, 6))
        long, short = rng.uniform(0.2, 0.85, (2, count))
        angles = np.exp(2j * np.pi * rng.uniform(size=(2, count)))
        moves = rng.uniform(-1, 1, (2, count))
        maps = np.stack([(long + short) / 2 * angles[0], (long - short) / 2 * angles[1], moves[0] + 1j * moves[1]])
        maps[:2] = np.where(rng.random(count) < 0.5, maps[:2], maps[1::-1])  # some maps mirror
        points = _standardised(_walk(np.random.default_rng(0), maps, 300)[0]) * 0.2 + 0.5 + 0.5j
        cells = np.clip(np.stack([points.real, points.imag]) * 32, 0, 31).astype(int)
        if _FILLED[0] <= len(np.unique(cells[0] * 32 + cells[1])) / 32**2 <= _FILLED[1]:
            return lambda rng, size: _draw_instance(rng, maps, size)


def _draw_instance(rng: Generator, maps: Complex, size: int) -> tuple[Array, Array]:
    """Draw colours and cover of a fractal with varied coefficients, turned, scaled, moved and perhaps mirrored."""
    varied = maps.real * rng.uniform(0.9, 1.1, maps.shape) + 1j * maps.imag * rng.uniform(0.9, 1.1, maps.shape)
    points, last = _walk(rng, varied, size * size // 4)
    points = _standardised(points) * np.exp(1j * rng.uniform(-0.5, 0.5)) * rng.uniform(0.17, 0.26)
    points = (points if rng.random() < 0.5 else -points.conj()) + complex(*rng.uniform(0.4, 0.6, 2))
    columns, rows = (np.floor(places * size).astype(int) for places in (points.real, points.imag))
    inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    pixels, last = (rows * size + columns)[inside], last[inside]
    counts = np.bincount(pixels, minlength=size * size)
    paint = rng.uniform(0, 255, (maps.shape[1], 3))
    sums = np.stack([np.bincount(pixels, paint[last, channel], size * size) for channel in range(3)], axis=1)
    colours = sums / np.maximum(counts, 1)[:, None]
    cover = 1 - np.exp(-counts * rng.uniform(0.5, 2))
    return colours.reshape(size, size, 3), cover.reshape(size, size)


def _walk(rng: Generator, maps: Complex, count: int) -> tuple[Complex, NDArray[np.intp]]:
    """Play the chaos game: return points of the attractor (30 * count), and the number of each point's last map.

    Maps (3, maps) are drawn in proportion to their area factor, as in FractalDB.
    """
    areas = np.abs(np.abs(maps[0]) ** 2 - np.abs(maps[1]) ** 2) + 0.01
    choices = np.searchsorted(np.cumsum(areas)[:-1], rng.uniform(0, areas.sum(), (_SETTLE + _KEPT, count)))
    points = rng.uniform(-1, 1, count).astype(complex)
    kept = []
    for step, choice in enumerate(choices):
        turn, flip, move = maps[:, choice]
        points = turn * points + flip * points.conj() + move
        if step >= _SETTLE:
            kept.append(points)
    return np.concatenate(kept), choices[_SETTLE:].ravel()


def _standardised(points: Complex) -> Complex:
    """Shift and scale points to mean 0 and a larger deviation of 1."""
    centred = points - points.mean()
    standardised: Complex = centred / max(float(centred.real.std()), float(centred.imag.std()), 1e-6)
    return standardised


def _draw_spectrum(rng: Generator) -> Pattern:
    """Draw a texture: noise with most of its power near one frequency and angle, sharpened or not."""
    # waves per frame: finer ones would be lost when a 64-pixel picture is encoded
    frequency, width = np.exp(rng.uniform(log(2.5), log(14))), rng.uniform(0.1, 0.5)
    angle, spread = rng.uniform(0, np.pi), rng.choice([0.15, 0.4, 10])
    sharp = rng.choice([0.3, 1.0, 6.0])

    def draw(rng: Generator, size: int) -> tuple[Array, Array]:
        waves_x, waves_y = np.meshgrid(np.fft.rfftfreq(size, 1 / size), np.fft.fftfreq(size, 1 / size))
        radius = np.maximum(np.hypot(waves_x, waves_y), 1e-6)
        turn = np.arctan2(waves_y, waves_x) - angle - rng.uniform(-0.25, 0.25)
        power = np.exp(-(np.log(radius / frequency / rng.uniform(0.9, 1.1)) ** 2) / 2 / width**2)
        power *= np.exp((np.cos(2 * turn) - 1) / 2 / spread**2)
        noise = np.fft.irfft2(np.fft.rfft2(rng.normal(0, 1, (size, size))) * np.sqrt(power), (size, size))
        share = 0.5 + 0.5 * np.tanh(noise / max(float(noise.std()), 1e-9) * sharp)
        low, high = rng.uniform(0, 255, (2, 3))
        return low + (high - low) * share[..., None], np.ones((size, size))

    return draw
