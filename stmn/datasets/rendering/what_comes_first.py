"""Task *what_comes_first*: a temporal order that no single chunk shows.

A disc rests, moves for 5 frames, rests, moves in another direction for 5 frames, and rests. The class is the direction
that comes first. The motions are so far apart that no flow stack (L = 10 fields) sees both, and a stack that sees one
motion looks the same in both orders. Disc and ground lie on a torus, so positions say nothing.

The best possible accuracy with T = 6 chunks 7 frames apart, as in testing with 46 frames (chance is 25 %):

- a frame: 25 %. Its distribution is the same in all classes.
- a stack, or the frame and the stack of a chunk: 50 %, if it sees a motion. That motion is the first or the second with
  equal probability; if it is the second, the first is any other direction.
- the average of the scores of streams that were trained separately: 50 %. Each score is the probability of the classes
  given one chunk, which doesn't depend on where the disc is, and the second motion starts 14 frames after the first, so
  chunks see it in the same way, two chunks later.
- an average over chunks that is trained as a whole: 50 %, if no feature depends on where in the frame it is computed.
  One that does can do better, because the second motion begins where the first one ended.
- max pooling over time (eq. 10): more than 50 %. A position where one motion ends and the other begins has features of
  both.
- one temporal filter of length 3 before the pooling (`last_unit`): 100 %. It sees three consecutive chunks, and some
  three of them show the first motion in the first chunk and the second motion in the last.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.rendering.canvas import Mask
from stmn.datasets.rendering.torus import Disc, draw_disc, find_discs, render_discs
from stmn.datasets.rendering.which_moves import DIRECTIONS

CLASSES = [f"{name}_first" for name in sorted(DIRECTIONS)]

#: frames of a motion, and frames from the start of one motion to the start of the other: two chunks
MOVING, APART = 5, 14
#: range of the first flow field of the first motion: one of 7 consecutive fields
STARTS = (10, 17)
#: frames of the shortest video: 36 positions of a stack, so that 6 chunks are 7 frames apart
LEAST_FRAMES = 46


def draw_starts(rng: Generator, frames: int) -> tuple[int, int]:
    """Draw the first flow fields of both motions, in order; in frames beyond `LEAST_FRAMES` the disc rests."""
    first = int(rng.integers(*STARTS)) + (frames - LEAST_FRAMES) // 2
    return first, first + APART


def render(rng: Generator, class_name: str, frames: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Render the frames, (size, size, 3) RGB uint8; `class_name` begins with the direction of the first motion."""
    disc = _draw_disc(rng, class_name, frames, size)
    return render_discs(rng, [disc], np.zeros((frames, 2)), size)


def masks(rng: Generator, class_name: str, frames: int, size: int, times: Sequence[int]) -> dict[str, Mask]:
    """Return where the disc ("target") is, (times, size, size)."""
    return {"target": find_discs([_draw_disc(rng, class_name, frames, size)], size, times)[0]}


def _draw_disc(rng: Generator, class_name: str, frames: int, size: int) -> Disc:
    """Draw the disc: it moves in one direction, and later in one of the three others at the same speed."""
    first = class_name.removesuffix("_first")
    second = str(rng.choice([name for name in sorted(DIRECTIONS) if name != first]))
    speed = rng.uniform(0.02, 0.035) * size
    steps = np.zeros((frames, 2))  # row t: the motion from frame t - 1 to frame t, flow field t - 1
    for start, name in zip(draw_starts(rng, frames), (first, second), strict=True):
        steps[start + 1 : start + 1 + MOVING] = np.array(DIRECTIONS[name]) * speed
    return draw_disc(rng, np.cumsum(steps, axis=0), rng.uniform(0.14, 0.2) * size, rng.uniform(0, 2 * np.pi), size)
