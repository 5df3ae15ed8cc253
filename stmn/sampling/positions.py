"""Where chunks lie in a video (sections 4.1 and 4.2).

A chunk at RGB frame t reads flow fields t - L/2 ... t + L/2 - 1. Times count from 0; a video of n frames has fields
0 ... n - 2. A video too short for a whole stack has one chunk in its middle, and times beyond its ends repeat the first
or last field.
"""

import numpy as np
from numpy.random import Generator


def valid_positions(frames: int, stack_length: int) -> range:
    """The times whose whole stack lies in the video; the middle alone when there is none."""
    first = stack_length // 2
    last = frames - 1 - (stack_length - first)
    if last < first:
        return range(frames // 2, frames // 2 + 1)
    return range(first, last + 1)


def draw_positions(frames: int, stack_length: int, chunks: int, stride: tuple[int, int], rng: Generator) -> list[int]:
    """`chunks` times with one random stride for the video (section 4.1: 5 to 35) from a random start.

    Where the video is too short for the stride, they spread evenly over it.
    """
    valid = valid_positions(frames, stack_length)
    step = int(rng.integers(stride[0], stride[1] + 1))
    span = (chunks - 1) * step + 1
    if span <= len(valid):
        start = int(rng.integers(valid.start, valid.stop - span + 1))
        return [start + step * i for i in range(chunks)]
    return [round(t) for t in np.linspace(valid.start, valid.stop - 1, chunks)]


def spread_positions(frames: int, stack_length: int, chunks: int) -> list[int]:
    """At most `chunks` different times, spread evenly over the video (section 4.2: 25); a single one is its middle."""
    valid = valid_positions(frames, stack_length)
    if chunks == 1:
        return [valid[len(valid) // 2]]
    count = min(chunks, len(valid))
    return sorted({round(t) for t in np.linspace(valid.start, valid.stop - 1, count)})


def stack_times(t: int, frames: int, stack_length: int) -> list[int]:
    """The flow fields of the chunk at `t`, kept inside the video."""
    first = t - stack_length // 2
    return [min(max(i, 0), max(frames - 2, 0)) for i in range(first, first + stack_length)]
