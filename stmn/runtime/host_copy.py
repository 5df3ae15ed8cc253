"""Copy numbers from a device to the host while both go on working."""

import time
from typing import cast

import torch
from torch import Tensor

from stmn.runtime import torchrun

#: seconds between checks of an event, far less than a step takes
_POLL_SECONDS = 0.0005


def mark_queue(device: torch.device) -> torch.cuda.Event:
    """Return an event after all queued GPU work. A host that waits for it sleeps, which leaves its core to others."""
    event = torch.cuda.Event(blocking=True)
    event.record(torch.cuda.current_stream(device))
    return event


class HostCopy:
    """A copy of a tensor in host memory. The constructor only starts the copy; `read` waits for it.

    Args:
        values: (n,) on any device.
    """

    def __init__(self, values: Tensor) -> None:
        self._values, self._ready = values.detach(), None
        if values.is_cuda:
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values.detach(), non_blocking=True)
            self._ready = mark_queue(values.device)

    def read(self) -> list[float]:
        """Return the numbers; waits for the device to reach the copy, not for work queued later."""
        if self._ready is not None:
            # if other processes train too, one of them may be lost, and a host that sleeps in CUDA gets no signal
            while torchrun.size() > 1 and not self._ready.query():
                time.sleep(_POLL_SECONDS)
            self._ready.synchronize()
        return cast(list[float], self._values.cpu().tolist())
