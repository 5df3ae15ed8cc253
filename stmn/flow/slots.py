"""Memory that a process shares with the one that computes its flow: slots with frames, and room for their flow levels.

The memory has no name: it is handed over as a file descriptor, and is gone when both processes are, however they end.
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
    """What the slots hold.

    Attributes:
        count: Slots.
        pairs: Most pairs of a slot.
        height: Of the frames, pixels.
        width: Of the frames, pixels.
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
        """Bytes of a slot, whole pages."""
        used = self._frame_bytes + self.pairs * self.height * self.width * 2
        return -(-used // _PAGE) * _PAGE

    def frames(self, memory: mmap.mmap, slot: int) -> Tensor:
        """The frames of a slot, (pairs + 1, H, W, 3) uint8, in its memory."""
        return self._view(memory, slot * self.slot_bytes, (self.pairs + 1, self.height, self.width, 3))

    def levels(self, memory: mmap.mmap, slot: int) -> Tensor:
        """The flow levels of a slot, (pairs, 2, H, W) uint8, in its memory."""
        start = slot * self.slot_bytes + self._frame_bytes
        return self._view(memory, start, (self.pairs, 2, self.height, self.width))

    def _view(self, memory: mmap.mmap, start: int, shape: tuple[int, ...]) -> Tensor:
        count = int(np.prod(shape))
        return torch.from_numpy(np.frombuffer(memory, np.uint8, count, start).reshape(shape))


def make_memory(layout: Layout) -> tuple[int, mmap.mmap]:
    """Memory for the slots: its file descriptor, which the caller closes, and its mapping. Raises `OSError`."""
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
    """Map memory that another process has made. Raises `OSError` or `ValueError` if it is smaller than its layout."""
    return mmap.mmap(descriptor, layout.count * layout.slot_bytes)
