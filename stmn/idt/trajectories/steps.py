"""One step of the tracks of a scale: where they go, and where new ones start."""

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories import _steps_c, _steps_numpy
from stmn.idt.trajectories.pyramid import Field

Slots = NDArray[np.int32]


def advance(
    live: Slots, age: Slots, points: Field, moves: Field, spans: int, flow: Field, still: Field, patch: int
) -> tuple[NDArray[np.bool_], NDArray[np.int32], Slots]:
    """Move tracks with the flow at their rounded places; those that leave the frame stay behind.

    Args:
        live: (N,) the slots of the tracks.
        age: (slots,) the displacements that each track has; counted up.
        points: (slots, length + 1, 2) x and y; the next one is written.
        moves: (slots, length, 2) displacements without camera motion; the next one is written.
        spans: Spans of time of a track.
        flow: (2, H, W) pixels.
        still: (2, H, W), the flow without camera motion.
        patch: Side of a patch, pixels.

    Returns:
        (N,) which tracks are still inside the frame; and of these (n, 2) the upper left pixel of the patch that they
        left, and (n,) the row of their span, `slot * spans + span`.
    """
    way = _steps_numpy.advance if _steps_c.problem() else _steps_c.advance
    return way(live, age, points, moves, spans, flow, still, patch)


def find_starts(live: Slots, age: Slots, points: Field, strength: Field, step: int, quality: float) -> Field:
    """Find where tracks may start: the centres of the cells of a grid that hold no track and show structure.

    Args:
        live: (N,) the slots of the tracks.
        age: (slots,) the displacements that each track has.
        points: (slots, length + 1, 2) x and y.
        strength: (H, W), of corners.
        step: Side of a cell, pixels.
        quality: The part of the largest strength that a centre must exceed.

    Returns:
        (N, 2) x and y.
    """
    way = _steps_numpy.find_starts if _steps_c.problem() else _steps_c.find_starts
    return way(live, age, points, strength, step, quality)
