"""Motion by formulas: a textured object, or the whole scene, moves in one of 22 ways.

A class is what moves and how: `object_turn_clockwise`, `scene_swing_level`. Speeds, periods, phases, positions, shapes
and textures differ from video to video and say nothing about the class. If the object's motion is the class, the camera
is still or pans slowly; if the scene's is, the object moves with it or drifts slowly in it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import log

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from stmn.datasets.rendering.canvas import Array
from stmn.datasets.rendering.patterns import draw_picture, make_pattern

#: draws a path (frames, 4): x and y in units of the frame's side, angle in radians, log of the scale
_Path = Callable[[Generator, Array], Array]
_PATTERNS = 300  # enough that textures say nothing about the class


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniformly distributed."""
    return float(np.exp(rng.uniform(log(low), log(high))))


def _move(rng: Generator, t: Array, angle: float = 0, turn: float = 0) -> Array:
    """Move straight, within 15 degrees of an angle, and roll if `turn` is 1 or -1."""
    speed, angle = _log_uniform(rng, 0.006, 0.04), angle + rng.uniform(-0.26, 0.26)
    spin = turn * rng.uniform(0.06, 0.2)
    return np.stack([np.cos(angle) * speed * t, np.sin(angle) * speed * t, spin * t, 0 * t], axis=1)


def _turn(rng: Generator, t: Array, sign: int = 1) -> Array:
    """Turn about its centre; positive is clockwise in a picture, where y points down."""
    return np.stack([0 * t, 0 * t, sign * _log_uniform(rng, 0.03, 0.2) * t, 0 * t], axis=1)


def _zoom(rng: Generator, t: Array, sign: int = 1) -> Array:
    """Grow or shrink at a constant rate."""
    return np.stack([0 * t, 0 * t, 0 * t, sign * _log_uniform(rng, 0.012, 0.06) * t], axis=1)


def _swing(rng: Generator, t: Array, column: int = 0, other: int | None = None, sign: int = 1) -> Array:
    """Swing in one column of the path; circle in two."""
    reach = {0: 0.1, 1: 0.1, 2: 0.6, 3: 0.25}[column] * _log_uniform(rng, 0.4, 1.3)
    phase = 2 * np.pi * (t / rng.uniform(6, 14) + rng.uniform())
    path = np.zeros((len(t), 4))
    path[:, column] = reach * np.sin(phase)
    if other is not None:
        path[:, other] = -sign * reach * np.cos(phase)
    return path


def _diagonal(rng: Generator, t: Array, sign: int = 1) -> Array:
    """Swing along a diagonal; positive is down to the right."""
    path = _swing(rng, t, 0)
    path[:, 1] = sign * path[:, 0]
    return path


def _bounce(rng: Generator, t: Array, sign: int = 1) -> Array:
    """Move along in arcs, like a bouncing ball."""
    path = _move(rng, t, 0 if sign > 0 else np.pi)
    path[:, 1] -= _log_uniform(rng, 0.08, 0.25) * np.abs(np.sin(np.pi * (t / rng.uniform(6, 12) + rng.uniform())))
    return path


_ANGLES = ("right", "right_down", "down", "left_down", "left", "left_up", "up", "right_up")
KINDS: dict[str, _Path] = {
    **{f"move_{name}": partial(_move, angle=i * np.pi / 4) for i, name in enumerate(_ANGLES)},
    "roll_right": partial(_move, angle=0, turn=1), "roll_left": partial(_move, angle=np.pi, turn=-1),
    "turn_clockwise": partial(_turn, sign=1), "turn_anticlockwise": partial(_turn, sign=-1),
    "grow": partial(_zoom, sign=1), "shrink": partial(_zoom, sign=-1),
    "swing_level": partial(_swing, column=0), "swing_upright": partial(_swing, column=1),
    "circle_clockwise": partial(_swing, column=0, other=1, sign=1),
    "circle_anticlockwise": partial(_swing, column=0, other=1, sign=-1),
    "rock": partial(_swing, column=2), "pulse": partial(_swing, column=3),
    "swing_falling": partial(_diagonal, sign=1), "bounce_right": partial(_bounce, sign=1),
}  # fmt: skip
CLASSES = sorted(f"{who}_{kind}" for who in ("object", "scene") for kind in KINDS)


def render(rng: Generator, class_name: str, frames: int, size: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Render the frames, (size, size, 3) RGB uint8, of a video of a class, such as `scene_roll_left`."""
    who, _, kind = class_name.partition("_")
    t: Array = np.arange(frames, dtype=float) - (frames - 1) / 2
    path = KINDS[kind](rng, t)
    drift = _move(rng, t, rng.uniform(0, 2 * np.pi)) * rng.choice([0, 0.2])
    world, thing = (path, drift) if who == "scene" else (drift, path)
    scenery, skin = (draw_picture(rng, make_pattern(seed, int(rng.integers(_PATTERNS))), size) for _ in range(2))
    skin = np.concatenate([skin, _draw_shape(rng, size)[..., None]], axis=2)
    laid = _similarity(rng.uniform([-0.5, -0.5, -np.pi, 0], [0.5, 0.5, np.pi, 0.7]))
    turned = _similarity(rng.uniform([0, 0, -np.pi, -1.1], [0, 0, np.pi, -0.1]))
    place = _similarity(rng.uniform([-0.25, -0.25, 0, 0], [0.25, 0.25, 0, 0]))
    noise = rng.uniform(0, 4)
    for camera, moved in zip(world, thing, strict=True):
        seen = _similarity(camera)
        picture = _look(scenery, seen @ laid, "mirror")
        layer = _look(skin, seen @ place @ _similarity(moved) @ turned, "constant")
        cover = layer[..., 3:]
        picture = picture * (1 - cover) + layer[..., :3] * cover + rng.normal(0, 1, picture.shape) * noise
        yield np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _similarity(pose: Array) -> Array:
    """Return the map, (3, 3), that turns and scales about the centre and then moves; `pose` is a row of a path."""
    x, y, angle, log_scale = pose
    cos, sin = np.exp(log_scale) * np.cos(angle), np.exp(log_scale) * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]])


def _look(picture: Array, pose: Array, beyond: str) -> Array:
    """Return a picture (size, size, channels) transformed by `pose`; `beyond` is scipy's mode outside of it."""
    size = len(picture)
    back = np.linalg.inv(pose)
    turn = back[1::-1, 1::-1]  # scipy counts rows first
    centre = np.full(2, (size - 1) / 2)
    offset = centre + back[1::-1, 2] * size - turn @ centre
    layers = [affine_transform(layer, turn, offset, order=1, mode=beyond) for layer in np.moveaxis(picture, 2, 0)]
    return np.stack(layers, axis=2)


def _draw_shape(rng: Generator, size: int) -> Array:
    """Draw a blob with a soft edge in the middle: its cover, (size, size), 0..1."""
    rows, columns = (np.mgrid[:size, :size] - (size - 1) / 2) / size
    angle = np.arctan2(rows, columns)
    edge = 0.32 + sum(rng.normal(0, 0.05) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(1, 5))
    cover: Array = np.clip((edge - np.hypot(rows, columns)) * size / 2 + 0.5, 0, 1)
    return cover
