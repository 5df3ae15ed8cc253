"""One step of the tracks of a scale in NumPy: the reference, and used on machines without a C compiler."""

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories.pyramid import Field

Slots = NDArray[np.int32]


def advance(
    live: Slots, age: Slots, points: Field, moves: Field, spans: int, flow: Field, still: Field, patch: int
) -> tuple[NDArray[np.bool_], NDArray[np.int32], Slots]:
    """As `stmn.idt.trajectories.steps.advance`."""
    height, width = flow.shape[1:]
    heads = points[live, age[live]]
    at = np.clip(np.rint(heads).astype(np.int32), 0, (width - 1, height - 1))
    moved = heads + flow[:, at[:, 1], at[:, 0]].T
    x, y = moved.T
    keep: NDArray[np.bool_] = np.asarray((x > 0) & (x < width) & (y > 0) & (y < height))
    slots, at = live[keep], at[keep]
    ages = age[slots]
    moves[slots, ages] = still[:, at[:, 1], at[:, 0]].T
    points[slots, ages + 1] = moved[keep]
    age[slots] = ages + 1
    corners = np.clip(at - patch // 2, 0, (width - patch, height - patch)).astype(np.int32)
    return keep, corners, (slots * spans + ages * spans // moves.shape[1]).astype(np.int32)


def find_starts(live: Slots, age: Slots, points: Field, strength: Field, step: int, quality: float) -> Field:
    """As `stmn.idt.trajectories.steps.find_starts`."""
    rows, columns = strength.shape[0] // step, strength.shape[1] // step
    middle = slice(step // 2, None, step)
    free = strength[middle, middle][:rows, :columns] > strength.max() * np.float32(quality)
    column, row = points[live, age[live]].astype(np.intp).T // step
    seen = (column < columns) & (row < rows)
    free[row[seen], column[seen]] = False
    y, x = np.nonzero(free)
    return np.column_stack([x, y]).astype(np.float32) * step + step // 2
