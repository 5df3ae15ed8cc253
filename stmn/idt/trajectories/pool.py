"""The tracks in progress of one scale: arrays with a slot per track, which is reused when the track ends."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories.layout import Layout
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.idt.trajectories.pyramid import Field
from stmn.idt.trajectories.steps import advance, find_starts

#: a track starts where the corner strength is more than this fraction of the frame's largest
_QUALITY = 0.001

_Slots = NDArray[np.int32]


@dataclass(frozen=True)
class Ended:
    """Tracks that reached their length.

    Attributes:
        points: (N, length + 1, 2) pixels of their scale.
        moves: (N, length, 2) displacements without camera motion, pixels of their scale.
        sums: (capacity, spans, numbers of a patch) the sums of each span's descriptors, for all tracks of the pool.
        slots: (N,) these tracks' rows of `sums`; valid until the pool starts others.
    """

    points: Field
    moves: Field
    sums: Field
    slots: _Slots


class Pool:
    """Tracks in progress.

    Attributes:
        sums: (capacity * spans, numbers of a patch) sums of descriptors, in row `slot * spans + span`.
    """

    def __init__(self, parameters: TrackParameters) -> None:
        self._length, self._spans = parameters.length, parameters.spans
        self._patch, self._step = parameters.patch, parameters.step
        self._numbers = Layout.of(parameters).numbers
        self._live: _Slots = np.zeros(0, np.int32)
        self._free: _Slots = np.zeros(0, np.int32)
        self._age = np.zeros(0, np.int32)
        self._points = np.zeros((0, self._length + 1, 2), np.float32)
        self._moves = np.zeros((0, self._length, 2), np.float32)
        self.sums = np.zeros((0, self._numbers), np.float32)

    def advance(self, flow: Field, still: Field) -> tuple[NDArray[np.int32], _Slots]:
        """Move the tracks, and end those that leave the frame.

        Args:
            flow: (2, H, W) pixels.
            still: (2, H, W), the flow without camera motion.

        Returns:
            (N, 2) x and y of the upper left pixel of each track's patch before it moved; (N,) its row of `sums`.
        """
        arrays = (self._live, self._age, self._points, self._moves)
        keep, corners, rows = advance(*arrays, self._spans, flow, still, self._patch)
        self._keep(keep)
        return corners, rows

    def start(self, strength: Field) -> None:
        """Start tracks in a frame with corner strength (H, W), where there are no tracks."""
        points = find_starts(self._live, self._age, self._points, strength, self._step, _QUALITY)
        if len(points) > len(self._free):
            self._grow(len(points) - len(self._free))
        slots, self._free = self._free[: len(points)], self._free[len(points) :]
        self._age[slots] = 0
        self._points[slots, 0] = points
        self.sums.reshape(-1, self._spans, self._numbers)[slots] = 0
        self._live = np.concatenate([self._live, slots])

    def end(self) -> Ended:
        """Remove and return the tracks that have reached their length."""
        complete = self._age[self._live] == self._length
        slots = self._live[complete]
        self._keep(~complete)
        sums = self.sums.reshape(-1, self._spans, self._numbers)
        return Ended(self._points[slots], self._moves[slots], sums, slots)

    def _keep(self, which: NDArray[np.bool_]) -> None:
        """Keep the tracks where `which` is True, and free the slots of the others."""
        if not which.all():
            self._free = np.concatenate([self._free, self._live[~which]])
            self._live = self._live[which]

    def _grow(self, need: int) -> None:
        """Add at least `need` slots."""
        old = len(self._age)
        more = max(need, old, 256)

        def longer(array: Field, rows: int) -> Field:
            return np.concatenate([array, np.zeros((rows, *array.shape[1:]), array.dtype)])

        self._age = np.concatenate([self._age, np.zeros(more, np.int32)])
        self._points, self._moves = longer(self._points, more), longer(self._moves, more)
        self.sums = longer(self.sums, more * self._spans)
        self._free = np.concatenate([self._free, np.arange(old, old + more, dtype=np.int32)])
