"""Task *distractors*: one reddish disc among others, seen by a moving camera.

Three discs move over a ground that the camera pans across, each in one of four directions, drawn independently.
One is reddish, the others have any other hue. The class is the direction in which the reddish one moves over the
ground. Discs and ground lie on a torus and may cover each other.

The best possible accuracy from each input (chance is 25 %):

- a frame: 25 %. Positions are uniformly distributed, whatever moves where.
- flow: 56.3 %. It shows how many discs move in each direction but no hue, because grey levels don't depend on hue. The
  best guess is the direction of most discs.
- the average of the scores of streams that were trained separately: 56.3 %. Frames add nothing: their best score is the
  same for all classes.
- features combined at the same pixel: 100 %, unless the reddish disc is covered. Motion has to be judged relative to
  the camera's, which turns it by up to 20 degrees.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.rendering.canvas import Array, Mask
from stmn.datasets.rendering.torus import Disc, draw_disc, find_discs, render_discs
from stmn.datasets.rendering.which_moves import DIRECTIONS

CLASSES = sorted(DIRECTIONS)
DISCS = 3
#: hues in radians: of the reddish disc, how far it may differ, and how far the others stay away from it
RED, RED_WIDTH, APART = np.radians(100), np.radians(10), np.radians(50)
#: the camera's largest speed, as a share of the discs': it turns their motion by at most 20 degrees
CAMERA = 0.3


def render(rng: Generator, class_name: str, frames: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Render the frames, (size, size, 3) RGB uint8; `class_name` is the direction of the reddish disc."""
    discs, _, camera = draw_motion(rng, class_name, frames, size)
    return render_discs(rng, discs, camera, size)


def masks(rng: Generator, class_name: str, frames: int, size: int, times: Sequence[int]) -> dict[str, Mask]:
    """Return where the reddish disc ("target") and all others ("distractor") are visible, (times, size, size) each."""
    discs, target, _ = draw_motion(rng, class_name, frames, size)
    found = find_discs(discs, size, times)
    others = [mask for number, mask in enumerate(found) if number != target]
    return {"target": found[target], "distractor": np.any(others, axis=0)}


def draw_motion(rng: Generator, class_name: str, frames: int, size: int) -> tuple[list[Disc], int, Array]:
    """Draw the discs, the number of the reddish one, and the camera's track, (frames, 2) pixels."""
    t = np.arange(frames)[:, None]
    speed = rng.uniform(0.6, 0.85) * size / 28
    pan, angle = rng.uniform(0, CAMERA) * speed, rng.uniform(0, 2 * np.pi)
    camera: Array = pan * np.array([np.cos(angle), np.sin(angle)]) * t
    names = [str(name) for name in rng.choice(CLASSES, DISCS)]
    target = int(rng.integers(DISCS))
    names[target] = class_name
    discs = []
    for number, name in enumerate(names):
        hue = RED + (rng.uniform(-RED_WIDTH, RED_WIDTH) if number == target else rng.uniform(APART, 2 * np.pi - APART))
        travel = np.array(DIRECTIONS[name]) * speed * rng.uniform(0.9, 1.1) * t + camera
        discs.append(draw_disc(rng, travel, rng.uniform(0.12, 0.15) * size, hue, size))
    return discs, target, camera
