"""One step of the tracks of a scale: move them, and find where new ones start."""

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories import _steps_c, _steps_numpy
from stmn.idt.trajectories.pyramid import Field

Slots = NDArray[np.int32]


def advance(
    live: Slots, age: Slots, points: Field, moves: Field, spans: int, flow: Field, still: Field, patch: int
) -> tuple[NDArray[np.bool_], NDArray[np.int32], Slots]:
    """Move tracks with the flow at their rounded positions; those that leave the frame are dropped.

    Args:
        live: (N,) the slots of the tracks.
        age: (slots,) the number of displacements that each track has; incremented.
        points: (slots, length + 1, 2) x and y; the next one is written.
        moves: (slots, length, 2) displacements without camera motion; the next one is written.
        spans: Spans of time in a track.
        flow: (2, H, W) pixels.
        still: (2, H, W), the flow without camera motion.
        patch: Side of a patch, pixels.

    Returns:
        (N,) True for tracks that are still inside the frame; for these, (n, 2) the upper left pixel of the patch before
        the move, and (n,) the row of their span, `slot * spans + span`.
    """
    way = _steps_numpy.advance if _steps_c.problem() else _steps_c.advance
    return way(live, age, points, moves, spans, flow, still, patch)


def find_starts(live: Slots, age: Slots, points: Field, strength: Field, step: int, quality: float) -> Field:
    """Find where tracks may start: the centres of grid cells that hold no track and show structure.

    Args:
        live: (N,) the slots of the tracks.
        age: (slots,) the number of displacements that each track has.
        points: (slots, length + 1, 2) x and y.
        strength: (H, W) corner strength.
        step: Side of a cell, pixels.
        quality: The fraction of the largest strength that a centre must exceed.

    Returns:
        (N, 2) x and y.
    """
    way = _steps_numpy.find_starts if _steps_c.problem() else _steps_c.find_starts
    return way(live, age, points, strength, step, quality)
