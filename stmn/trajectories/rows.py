"""Turn tracks that ended into rows, and leave out those that say nothing (section 3.1 of the paper)."""

from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from stmn.trajectories.layout import CELL, DIRECTIONS
from stmn.trajectories.parameters import TrackParameters
from stmn.trajectories.pool import Ended
from stmn.trajectories.tracks import Rows, Tracks

#: standard deviation of a track's points, pixels: at most this in x and y is static, more in x or y is random
_STATIC, _RANDOM = sqrt(3), 50.0
#: a displacement of more pixels than this, and of more than this part of the path, is an error of the flow
_JUMP, _JUMP_PART = 20.0, 0.7
#: a track that is never displaced by more pixels than this, camera motion aside, is the background
_BACKGROUND = 1.0


def make_rows(
    ended: Ended, frame: int, scale: float, size: tuple[int, int], total: int | None, parameters: TrackParameters
) -> Tracks:
    """The tracks that are worth keeping.

    Args:
        ended: Tracks of one scale.
        frame: The number of the frame in which they ended, from 0.
        scale: Pixels of the frame in a pixel of the scale.
        size: Height and width of the frame.
        total: Frames of the video, or None if that is not known.
        parameters: Of the tracks.
    """
    points, moves = ended.points * np.float32(scale), ended.moves * np.float32(scale)
    mean, deviation = points.mean(axis=1), points.std(axis=1)
    steps = np.linalg.norm(np.diff(points, axis=1), axis=2)
    path = steps.sum(axis=1)
    keep = find_valid(deviation, steps, moves)
    points, moves, mean, deviation, path = (a[keep] for a in (points, moves, mean, deviation, path))

    height, width = size
    count = len(points)
    half = parameters.length / 2
    when = np.nan if total is None else (frame - half) / total
    info = np.column_stack([
        np.full(count, frame), mean, deviation, path, np.full(count, scale),
        np.clip(mean / (width, height), 0, 0.999), np.full(count, np.clip(when, 0, 0.999)),
    ])  # fmt: skip
    lengths = np.linalg.norm(moves, axis=2).sum(axis=1)
    trajectory = moves / lengths[:, None, None]
    means = (ended.sums[keep] / (parameters.length // parameters.spans)).reshape(
        count, parameters.spans, parameters.cells**2, CELL
    )
    parts = [means[..., k * DIRECTIONS : (k + 1) * DIRECTIONS] for k in range(4)]
    parts[1] = np.concatenate([parts[1], means[..., -1:]], axis=3)
    rows: Rows = np.concatenate(
        [part.reshape(count, prod(part.shape[1:])) for part in (info, trajectory, *parts)], axis=1, dtype=np.float32
    )
    return Tracks(rows, points, parameters)


def find_valid(deviation: Rows, steps: Rows, moves: Rows) -> NDArray[np.bool_]:
    """Which tracks are neither static, nor random, nor have a jump, nor follow the background.

    Args:
        deviation: (N, 2) standard deviation of the points, pixels.
        steps: (N, length) lengths of the displacements, pixels.
        moves: (N, length, 2) displacements without camera motion, pixels.
    """
    static = (deviation < _STATIC).all(axis=1)
    random = (deviation > _RANDOM).any(axis=1)
    longest = steps.max(axis=1, initial=0)
    jumps = (longest > _JUMP) & (longest > _JUMP_PART * steps.sum(axis=1))
    background = np.linalg.norm(moves, axis=2).max(axis=1, initial=0) <= _BACKGROUND
    valid: NDArray[np.bool_] = ~(static | random | jumps | background)
    return valid
