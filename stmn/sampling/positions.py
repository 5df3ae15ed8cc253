"""Positions of chunks in a video (sections 4.1 and 4.2).

A chunk at RGB frame t has the flow fields t - L/2 ... t + L/2 - 1. Times count from 0; a video of n frames has the
fields 0 ... n - 2. A video too short for a whole stack has one chunk, in its middle, whose stack repeats the first and
the last field.
"""

from itertools import pairwise

import numpy as np
from numpy.random import Generator


def valid_positions(frames: int, stack_length: int) -> range:
    """Return the times whose whole stack lies in the video; if there are none, only the middle one."""
    first = stack_length // 2
    last = frames - 1 - (stack_length - first)
    if last < first:
        return range(frames // 2, frames // 2 + 1)
    return range(first, last + 1)


def is_short(frames: int, stack_length: int, chunks: int, stride: int) -> bool:
    """True if a video of `frames` frames does not hold `chunks` whole chunks, `stride` frames apart."""
    return (chunks - 1) * stride + 1 > len(valid_positions(frames, stack_length))


def draw_positions(frames: int, stack_length: int, chunks: int, stride: tuple[int, int], rng: Generator) -> list[int]:
    """Draw the times of the chunks of a training sample (section 4.1).

    Args:
        frames: frames of the video.
        stack_length: L, flow fields per chunk.
        chunks: number of chunks, T.
        stride: smallest and largest temporal stride, frames (the paper: 5 to 35).
        rng: draws the stride and the first time.

    Returns:
        T times, equally far apart; spread evenly over the video if it is too short for the stride.
    """
    valid = valid_positions(frames, stack_length)
    step = int(rng.integers(stride[0], stride[1] + 1))
    span = (chunks - 1) * step + 1
    if span <= len(valid):
        start = int(rng.integers(valid.start, valid.stop - span + 1))
        return [start + step * i for i in range(chunks)]
    return [round(t) for t in np.linspace(valid.start, valid.stop - 1, chunks)]


def draw_segments(frames: int, stack_length: int, chunks: int, rng: Generator | None) -> list[int]:
    """Draw the times of chunks as in temporal segment networks (TSN, ECCV 2016): one from each of T equal segments.

    Args:
        frames: frames of the video.
        stack_length: L, flow fields per chunk.
        chunks: number of chunks and segments, T.
        rng: draws a time from each segment; None for the middle.

    Returns:
        T times in order. If a video has fewer times than segments, some are repeated.
    """
    valid = valid_positions(frames, stack_length)
    if rng is None or len(valid) < chunks:
        return [valid[(2 * i + 1) * len(valid) // (2 * chunks)] for i in range(chunks)]
    ends = [i * len(valid) // chunks for i in range(chunks + 1)]
    return [valid[int(rng.integers(first, end))] for first, end in pairwise(ends)]


def spread_positions(frames: int, stack_length: int, chunks: int) -> list[int]:
    """Spread the chunks of a test evenly over a video (section 4.2: 25 chunks).

    Args:
        frames: frames of the video.
        stack_length: L, flow fields per chunk.
        chunks: number of chunks wanted; a single one lies in the middle.

    Returns:
        Different times in order: `chunks` of them, fewer in a short video.
    """
    valid = valid_positions(frames, stack_length)
    if chunks == 1:
        return [valid[len(valid) // 2]]
    count = min(chunks, len(valid))
    return sorted({round(t) for t in np.linspace(valid.start, valid.stop - 1, count)})


def stack_times(t: int, frames: int, stack_length: int) -> list[int]:
    """Return the times of the L flow fields of the chunk at `t`; those outside the video become its first or last."""
    first = t - stack_length // 2
    return [min(max(i, 0), max(frames - 2, 0)) for i in range(first, first + stack_length)]
