"""The tracks of one scale while they last: arrays with a slot per track, which is used again when the track ends."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stmn.trajectories.layout import Layout
from stmn.trajectories.parameters import TrackParameters
from stmn.trajectories.pyramid import Field

_Slots = NDArray[np.int32]


@dataclass(frozen=True)
class Ended:
    """Tracks that reached their length.

    Attributes:
        points: (N, length + 1, 2) pixels of their scale.
        moves: (N, length, 2) displacements without camera motion, pixels of their scale.
        sums: (capacity, spans, numbers of a patch) the sums of each span's descriptors, of all tracks of the pool.
        slots: (N,) the rows of `sums` of these tracks, until the pool starts others.
    """

    points: Field
    moves: Field
    sums: Field
    slots: _Slots


class Pool:
    """Tracks in progress; `live` has their slots.

    Attributes:
        sums: (capacity * spans, numbers of a patch): row `slot * spans + span`.
    """

    def __init__(self, parameters: TrackParameters) -> None:
        self._length, self._spans = parameters.length, parameters.spans
        self._numbers = Layout.of(parameters).numbers
        self.live: _Slots = np.zeros(0, np.int32)
        self._free: _Slots = np.zeros(0, np.int32)
        self._age = np.zeros(0, np.int32)
        self._points = np.zeros((0, self._length + 1, 2), np.float32)
        self._moves = np.zeros((0, self._length, 2), np.float32)
        self.sums = np.zeros((0, self._numbers), np.float32)

    @property
    def heads(self) -> Field:
        """(N, 2), where the live tracks are."""
        points: Field = self._points[self.live, self._age[self.live]]
        return points

    @property
    def span_rows(self) -> _Slots:
        """(N,) the rows of `sums` for the live tracks' next descriptors."""
        spans = self._age[self.live] * self._spans // self._length
        rows: _Slots = (self.live * self._spans + spans).astype(np.int32)
        return rows

    def start(self, points: Field) -> None:
        """Begin tracks at points (N, 2)."""
        if len(points) > len(self._free):
            self._grow(len(points) - len(self._free))
        slots, self._free = self._free[: len(points)], self._free[len(points) :]
        self._age[slots] = 0
        self._points[slots, 0] = points
        self.sums.reshape(-1, self._spans, self._numbers)[slots] = 0
        self.live = np.concatenate([self.live, slots])

    def keep(self, which: NDArray[np.bool_]) -> None:
        """End the other live tracks without a trace."""
        if which.all():
            return
        self._free = np.concatenate([self._free, self.live[~which]])
        self.live = self.live[which]

    def move(self, points: Field, moves: Field) -> None:
        """Add a point and a displacement, (N, 2) each, to the live tracks."""
        age = self._age[self.live]
        self._moves[self.live, age] = moves
        self._points[self.live, age + 1] = points
        self._age[self.live] = age + 1

    def end(self) -> Ended:
        """Take out the tracks that have reached their length."""
        complete = self._age[self.live] == self._length
        slots = self.live[complete]
        if len(slots):
            self.keep(~complete)
        sums = self.sums.reshape(-1, self._spans, self._numbers)
        return Ended(self._points[slots], self._moves[slots], sums, slots)

    def _grow(self, need: int) -> None:
        """Make at least `need` more slots."""
        old = len(self._age)
        more = max(need, old, 256)

        def longer(array: Field, rows: int) -> Field:
            return np.concatenate([array, np.zeros((rows, *array.shape[1:]), array.dtype)])

        self._age = np.concatenate([self._age, np.zeros(more, np.int32)])
        self._points, self._moves = longer(self._points, more), longer(self._moves, more)
        self.sums = longer(self.sums, more * self._spans)
        self._free = np.concatenate([self._free, np.arange(old, old + more, dtype=np.int32)])
