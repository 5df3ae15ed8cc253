"""Task *which_moves*: it demonstrates the point of the paper.

Two discs of equal size, one reddish and one bluish, move in two different directions of four over a textured ground.
The class is the direction of the reddish one. Discs and ground lie on a torus and may cover each other.

The best possible accuracy from each input (chance is 25 %):

- a frame: 25 %. Positions are uniformly distributed, whatever moves where.
- flow: 50 %. It shows two directions, but not which one is the reddish disc's: brightness, speed and texture of both
  discs come from the same distributions, so grey frames, and therefore the flow, contain no information about hue.
- the average of the scores of streams that were trained separately: 50 %. Frames add nothing: their best score is the
  same for all classes.
- features combined at the same pixel: 100 %, except where the bluish disc covers the reddish one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.rendering.canvas import Mask
from stmn.datasets.rendering.torus import Disc, draw_disc, find_discs, render_discs

#: class -> (x, y) unit vector in image coordinates
DIRECTIONS = {"down": (0, 1), "left": (-1, 0), "right": (1, 0), "up": (0, -1)}
CLASSES = sorted(DIRECTIONS)
#: hues in radians, and how far a disc's may differ
RED, BLUE, WIDTH = np.radians(100), np.radians(0), np.radians(15)


def render(rng: Generator, class_name: str, frames: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Render the frames, (size, size, 3) RGB uint8; `class_name` is the direction of the reddish disc."""
    discs, _ = draw_motion(rng, class_name, frames, size)
    return render_discs(rng, discs, np.zeros((frames, 2)), size)


def masks(rng: Generator, class_name: str, frames: int, size: int, times: Sequence[int]) -> dict[str, Mask]:
    """Return where the reddish disc ("target") and the bluish one ("distractor") are visible, (times, size, size)."""
    discs, target = draw_motion(rng, class_name, frames, size)
    found = find_discs(discs, size, times)
    return {"target": found[target], "distractor": found[1 - target]}


def draw_motion(rng: Generator, class_name: str, frames: int, size: int) -> tuple[list[Disc], int]:
    """Draw both discs, the upper one last, and the number of the reddish one."""
    other = str(rng.choice([name for name in CLASSES if name != class_name]))
    radius = rng.uniform(0.1, 0.13) * size
    t = np.arange(frames)[:, None]
    discs = []
    for hue, name in ((RED, class_name), (BLUE, other)):
        speed = rng.uniform(0.5, 0.85) * size / 28
        shade = hue + rng.uniform(-WIDTH, WIDTH)
        discs.append(draw_disc(rng, np.array(DIRECTIONS[name]) * speed * t, radius, shade, size))
    target = int(rng.integers(2))
    return (discs if target == 0 else discs[::-1]), target
