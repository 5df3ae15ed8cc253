"""How long training waits for data: on a CPU the host; on a GPU, which the host runs ahead of, the GPU itself."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from stmn.runtime.device import Device


class DataWait:
    """Returns batches, and adds up how long the device has waited for them.

    A host that runs ahead of a GPU may wait for the loader while the GPU still computes, which costs nothing. So an
    event is queued on the GPU before and after each batch arrives: between the two the GPU was idle.

    Args:
        device: the device that computes on the batches.
    """

    def __init__(self, device: Device) -> None:
        self._on_gpu = device.is_cuda
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def next(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the next batch."""
        before, started = self._mark(), time.monotonic()
        batch = next(batches)
        self._seconds += time.monotonic() - started
        if before is not None and (after := self._mark()) is not None:
            self._events.append((before, after))
        return batch

    def take(self) -> float:
        """Return the seconds waited since the last call. On a GPU, this waits until it reaches the last batch."""
        seconds, events = self._seconds, self._events
        self._seconds, self._events = 0.0, []
        if not self._on_gpu:
            return seconds
        for _, after in events[-1:]:
            after.synchronize()
        return float(sum(before.elapsed_time(after) for before, after in events)) / 1000

    def _mark(self) -> torch.cuda.Event | None:
        """Queue an event on the GPU and return it; None on a CPU."""
        if not self._on_gpu:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
