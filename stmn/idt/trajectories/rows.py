"""Turn tracks that ended into rows, and leave out invalid ones (section 3.1 of the paper)."""

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories.layout import CELL, DIRECTIONS
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.idt.trajectories.pool import Ended
from stmn.idt.trajectories.pyramid import RATIO
from stmn.idt.trajectories.tracks import Rows, Tracks

#: standard deviation of a track's points, pixels: below the first in x and y it is static, above the second in either
#: it is random
_STATIC, _RANDOM = sqrt(3), 50.0
#: a displacement of more pixels than this, and more than this fraction of the path, is an error of the flow
_JUMP, _JUMP_PART = 20.0, 0.7
#: a track that is never displaced by more pixels than this, without camera motion, is background
_BACKGROUND = 1.0


def make_rows(
    ended: Sequence[Ended], frame: int, size: tuple[int, int], total: int | None, parameters: TrackParameters
) -> Tracks:
    """Make the rows of the valid tracks.

    Args:
        ended: Tracks of each scale, the finest first.
        frame: The number of the frame in which they ended, from 0.
        size: Height and width of the frame.
        total: Frames of the video, or None if that is not known.
        parameters: Parameters of the tracks.
    """
    scales = np.repeat([np.float32(RATIO**k) for k in range(len(ended))], [len(tracks.slots) for tracks in ended])
    points, moves = (np.concatenate(parts) for parts in zip(*((t.points, t.moves) for t in ended), strict=True))
    points, moves = points * scales[:, None, None], moves * scales[:, None, None]
    mean, deviation = points.mean(axis=1), points.std(axis=1)
    steps, lengths = _norm(np.diff(points, axis=1)), _norm(moves)
    # a homography may send a point to infinity; the displacement is then infinite too
    keep = find_valid(deviation, steps, lengths) & np.isfinite(lengths).all(axis=1)
    points, moves, mean, deviation = points[keep], moves[keep], mean[keep], deviation[keep]
    path, scales, lengths = steps[keep].sum(axis=1), scales[keep], lengths[keep].sum(axis=1)

    count, (height, width) = len(points), size
    rows = np.empty((count, parameters.columns), np.float32)
    when = np.nan if total is None else (frame - parameters.length / 2) / total
    place = np.clip(mean / np.array([width, height], np.float32), 0, 0.999)
    for k, column in enumerate((frame, *mean.T, *deviation.T, path, scales, *place.T, np.clip(when, 0, 0.999))):
        rows[:, k] = column
    start = len(Tracks.INFO) + 2 * parameters.length
    rows[:, len(Tracks.INFO) : start] = (moves / lengths[:, None, None]).reshape(count, 2 * parameters.length)
    kept = np.split(keep, np.cumsum([len(tracks.slots) for tracks in ended])[:-1])
    sums = np.concatenate([tracks.sums[tracks.slots[which]] for tracks, which in zip(ended, kept, strict=True)])
    order = _order(parameters.spans * parameters.cells**2)
    rows[:, start:] = sums.reshape(count, len(order))[:, order] * np.float32(parameters.spans / parameters.length)
    return Tracks(rows, points, parameters)


def find_valid(deviation: Rows, steps: Rows, moves: Rows) -> NDArray[np.bool_]:
    """(N,) True for tracks that are not static, not random, have no jump, and don't follow the background.

    Args:
        deviation: (N, 2) standard deviation of the points, pixels.
        steps: (N, length) lengths of the displacements, pixels.
        moves: (N, length) lengths of the displacements without camera motion, pixels.
    """
    static = (deviation < _STATIC).all(axis=1)
    random = (deviation > _RANDOM).any(axis=1)
    longest = steps.max(axis=1, initial=0)
    jumps = (longest > _JUMP) & (longest > _JUMP_PART * steps.sum(axis=1))
    background = moves.max(axis=1, initial=0) <= _BACKGROUND
    valid: NDArray[np.bool_] = ~(static | random | jumps | background)
    return valid


@lru_cache(maxsize=8)
def _order(cells: int) -> NDArray[np.intp]:
    """The indices of the numbers of HOG, HOF, MBHx and MBHy in the sums of a track, which has `CELL` per cell."""
    at = np.arange(cells * CELL).reshape(cells, CELL)
    parts = [at[:, k * DIRECTIONS : (k + 1) * DIRECTIONS] for k in range(4)]
    parts[1] = np.concatenate([parts[1], at[:, -1:]], axis=1)
    return np.concatenate([part.ravel() for part in parts])


def _norm(vectors: Rows) -> Rows:
    """The lengths of vectors (..., 2)."""
    lengths: Rows = np.hypot(vectors[..., 0], vectors[..., 1])
    return lengths
