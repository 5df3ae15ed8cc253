"""Memory shared with the process that computes flow: slots for frames and their flow levels.

The memory has no name: it is passed as a file descriptor, and is freed when both processes have ended in any way.
"""

import mmap
import os
import tempfile
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_PAGE = mmap.PAGESIZE


@dataclass(frozen=True)
class Layout:
    """The sizes of the slots.

    Attributes:
        count: Number of slots.
        pairs: Largest number of pairs in a slot.
        height: Height of the frames, pixels.
        width: Width of the frames, pixels.
    """

    count: int
    pairs: int
    height: int
    width: int

    @property
    def _frame_bytes(self) -> int:
        return (self.pairs + 1) * self.height * self.width * 3

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot, in whole pages."""
        used = self._frame_bytes + self.pairs * self.height * self.width * 2
        return -(-used // _PAGE) * _PAGE

    def frames(self, memory: mmap.mmap, slot: int) -> Tensor:
        """Return the frames of a slot, (pairs + 1, H, W, 3) uint8, as a view of its memory."""
        return self._view(memory, slot * self.slot_bytes, (self.pairs + 1, self.height, self.width, 3))

    def levels(self, memory: mmap.mmap, slot: int) -> Tensor:
        """Return the flow levels of a slot, (pairs, 2, H, W) uint8, as a view of its memory."""
        start = slot * self.slot_bytes + self._frame_bytes
        return self._view(memory, start, (self.pairs, 2, self.height, self.width))

    def _view(self, memory: mmap.mmap, start: int, shape: tuple[int, ...]) -> Tensor:
        count = int(np.prod(shape))
        return torch.from_numpy(np.frombuffer(memory, np.uint8, count, start).reshape(shape))


def make_memory(layout: Layout) -> tuple[int, mmap.mmap]:
    """Make memory for the slots: its file descriptor, which the caller closes, and its mapping. Raises `OSError`."""
    size = layout.count * layout.slot_bytes
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("stmn-flow")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
        return descriptor, mmap.mmap(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise


def map_memory(descriptor: int, layout: Layout) -> mmap.mmap:
    """Map another process's memory. Raises `OSError` or `ValueError` if it is smaller than the layout."""
    return mmap.mmap(descriptor, layout.count * layout.slot_bytes)
