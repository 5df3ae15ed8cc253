"""Task *which_moves*: it demonstrates the point of the paper.

Two discs of equal shape and size, one reddish and one bluish, move in two different directions of four over a textured
background. The class is the direction of the reddish disc. A single frame shows no direction; flow shows two directions
but not which one is the reddish disc's. So late fusion of the two can't tell either, and gets about half of the videos
right. Only features that are combined at the same pixel can tell.

Brightness, speed and texture of both discs come from the same distributions, so grey frames, and therefore the flow,
contain no information about hue.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.rendering.canvas import Array, Mask, draw_colour, draw_texture

#: class -> (x, y) unit vector in image coordinates
DIRECTIONS = {"down": (0, 1), "left": (-1, 0), "right": (1, 0), "up": (0, -1)}
CLASSES = sorted(DIRECTIONS)


def render(rng: Generator, class_name: str, frames: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Render the frames, (size, size, 3) RGB uint8; `class_name` is the direction of the reddish disc."""
    radius, tracks = _draw_motion(rng, class_name, frames, size)
    background = draw_texture(rng, size, size / 4)[..., None] * rng.uniform(15, 45) + rng.uniform(60, 190)
    background = background + draw_texture(rng, size, size / 2)[..., None] * rng.uniform(-12, 12, 3)
    surfaces = [draw_texture(rng, 2 * size, size / 8) * rng.uniform(8, 16) for _ in tracks]
    colours = [draw_colour(rng, reddish) for reddish in (True, False)]
    noise = rng.uniform(0, 4)
    rows, columns = np.mgrid[:size, :size].astype(float)
    for t in range(frames):
        picture = background.copy()
        for track, surface, colour in zip(tracks, surfaces, colours, strict=True):
            x, y = track[t]
            cover = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]
            shade = _shift(surface, x, y, size)[..., None]
            picture = picture * (1 - cover) + (colour + shade) * cover
        picture = picture + rng.normal(0, 1, picture.shape) * noise
        yield np.clip(np.round(picture), 0, 255).astype(np.uint8)


def masks(rng: Generator, class_name: str, frames: int, size: int, times: Sequence[int]) -> dict[str, Mask]:
    """Return where the reddish disc ("target") and the bluish one ("distractor") are, (times, size, size) each."""
    radius, tracks = _draw_motion(rng, class_name, frames, size)
    rows, columns = np.mgrid[:size, :size]
    return {
        name: np.array([np.hypot(columns - x, rows - y) <= radius for x, y in track[list(times)]])
        for name, track in zip(("target", "distractor"), tracks, strict=True)
    }


def _draw_motion(rng: Generator, class_name: str, frames: int, size: int) -> tuple[float, list[Array]]:
    """Draw the radius of both discs, and the (frames, 2) tracks of the reddish and the bluish one, in pixels."""
    other = rng.choice([name for name in DIRECTIONS if name != class_name])
    radius = rng.uniform(0.09, 0.13) * size
    return radius, _draw_tracks(rng, (class_name, str(other)), radius, frames, size)


def _draw_tracks(rng: Generator, directions: tuple[str, str], radius: float, frames: int, size: int) -> list[Array]:
    """Draw two (frames, 2) tracks of disc centres; the discs stay inside the frame and never touch."""
    steps = np.arange(frames)[:, None]
    longest = (size - 2 * radius - 2) / max(frames - 1, 1)  # speed of a disc that crosses the whole frame
    while True:
        tracks = []
        for name in directions:
            speed = rng.uniform(0.5, 0.85) * min(longest, size / 28)
            travel = np.array(DIRECTIONS[name], float) * speed
            low = radius + 1 + np.maximum(-travel * (frames - 1), 0)
            high = size - radius - 2 - np.maximum(travel * (frames - 1), 0)
            tracks.append(rng.uniform(low, high) + steps * travel)
        if np.hypot(*(tracks[0] - tracks[1]).T).min() > 2 * radius + 2:
            return tracks


def _shift(surface: Array, x: float, y: float, size: int) -> Array:
    """Return the (size, size) window of a larger texture that moves with a disc at (x, y), with subpixel accuracy."""
    left, top = size - x, size - y
    column, row = int(left), int(top)
    part_x, part_y = left - column, top - row
    window = surface[row : row + size + 1, column : column + size + 1]
    rows = window[:-1] * (1 - part_y) + window[1:] * part_y
    return rows[:, :-1] * (1 - part_x) + rows[:, 1:] * part_x
