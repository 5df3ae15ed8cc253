"""Frames whose motion is known: a camera that pans over a texture, and a disc that goes its own way."""

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """(height, width) grey values of blobs a few pixels wide."""
    values = np.random.default_rng(seed).normal(size=(height, width))
    for axis in (0, 1):
        for _ in range(3):
            values = (np.roll(values, 1, axis) + 2 * values + np.roll(values, -1, axis)) / 4
    return np.clip(128 + 50 * values / values.std(), 0, 255)


def pan(frames: int, dx: int = 0, dy: int = 0, height: int = 96, width: int = 128, seed: int = 0) -> list[Picture]:
    """(height, width, 3) frames of a texture that moves by (dx, dy) pixels per frame."""
    big = texture(height + frames * abs(dy), width + frames * abs(dx), seed)
    pictures = []
    for t in range(frames):
        top = (frames - t if dy > 0 else t) * abs(dy)
        left = (frames - t if dx > 0 else t) * abs(dx)
        grey = big[top : top + height, left : left + width]
        pictures.append(np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2))
    return pictures


def add_disc(pictures: list[Picture], centre: tuple[int, int], dx: int, radius: int = 20, seed: int = 9) -> None:
    """Paste a disc with a texture of its own, which moves by dx pixels per frame."""
    side = 2 * radius + 1
    y, x = np.mgrid[:side, :side] - radius
    inside, own = np.hypot(x, y) <= radius, texture(side, side, seed)
    for t, picture in enumerate(pictures):
        left, top = centre[0] + t * dx - radius, centre[1] - radius
        picture[top : top + side, left : left + side][inside] = own[inside][:, None]
