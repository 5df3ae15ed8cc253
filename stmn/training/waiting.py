"""How long a training waits for data: on a CPU the host; on a GPU, which the host works ahead of, the GPU itself."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from stmn.runtime.device import Device


class DataWait:
    """Gives batches, and adds up how long the device has waited for them.

    A host that works ahead of a GPU may wait for the loader while the GPU still computes, which costs nothing. So two
    events stand in the GPU's queue, before and after a batch comes: between them the GPU had nothing to do.

    Args:
        device: where the batches are computed with.
    """

    def __init__(self, device: Device) -> None:
        self._on_gpu = device.is_cuda
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def next(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The next batch."""
        before, started = self._mark(), time.monotonic()
        batch = next(batches)
        self._seconds += time.monotonic() - started
        if before is not None and (after := self._mark()) is not None:
            self._events.append((before, after))
        return batch

    def take(self) -> float:
        """Seconds since this was last asked. It waits until a GPU has begun with the last batch."""
        seconds, events = self._seconds, self._events
        self._seconds, self._events = 0.0, []
        if not self._on_gpu:
            return seconds
        for _, after in events[-1:]:
            after.synchronize()
        return float(sum(before.elapsed_time(after) for before, after in events)) / 1000

    def _mark(self) -> torch.cuda.Event | None:
        """An event in the GPU's queue; None on a CPU."""
        if not self._on_gpu:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
