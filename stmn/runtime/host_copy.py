"""Numbers that travel from a device to the host while both go on working."""

import time
from typing import cast

import torch
from torch import Tensor

from stmn.runtime import torchrun

#: seconds between looks at an event, far less than a step takes
_POLL_SECONDS = 0.0005


def mark_queue(device: torch.device) -> torch.cuda.Event:
    """An event behind all that a GPU was given. A host that waits for it sleeps, which leaves its core to others."""
    event = torch.cuda.Event(blocking=True)
    event.record(torch.cuda.current_stream(device))
    return event


class HostCopy:
    """A copy of a tensor in the host's memory. It is on its way when this returns; `read` waits for it.

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
        """The numbers; this waits for the device to have got so far, not for what it was given later."""
        if self._ready is not None:
            # where other processes compute too, one of them may be lost: a host that sleeps in CUDA hears no signal
            while torchrun.size() > 1 and not self._ready.query():
                time.sleep(_POLL_SECONDS)
            self._ready.synchronize()
        return cast(list[float], self._values.cpu().tolist())
