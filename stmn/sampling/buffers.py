"""Reusable memory for batches."""

import weakref

import numpy as np

from stmn.sampling.resample import Floats


class BufferPool:
    """Arrays for batches, reused once no tensor refers to them; with fresh memory a large batch takes a third longer.

    The arrays are NumPy's, not torch's, because NumPy asks the system for huge pages.

    Args:
        most: the largest number of arrays to keep.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lent: list[tuple[Floats, weakref.ref[Floats]]] = []

    def take(self, shape: tuple[int, ...]) -> Floats:
        """Return a float32 array of the given shape, with unset values."""
        for number, (array, borrower) in enumerate(self._lent):
            if array.shape == shape and borrower() is None:
                del self._lent[number]
                break
        else:
            array = np.empty(shape, np.float32)
        view = array[:]  # a tensor made from it keeps it alive
        self._lent = [*self._lent, (array, weakref.ref(view))][-self._most :] if self._most else []
        return view
