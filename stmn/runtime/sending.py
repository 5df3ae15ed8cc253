"""Send work to a device ahead of its use, so that copying overlaps with computing."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from stmn.runtime.device import Device

_Item = TypeVar("_Item")
_Sent = TypeVar("_Sent")


def send_ahead(
    items: Iterable[_Item], send: Callable[[_Item], _Sent], tensors: Callable[[_Sent], Iterable[Tensor]], device: Device
) -> Iterator[_Sent]:
    """Send items in order; on CUDA each is copied while the one before it is used.

    There `send` runs on its own stream, and its result is ready for the caller's stream. Up to three items are on the
    device at a time: when the caller asks for the next, the one after it is sent while the caller still holds the last.

    Args:
        items: the items, such as batches in pinned memory.
        send: copies an item to the device, and may compute there; it must not wait for the device.
        tensors: returns all tensors in a result of `send`.
        device: the device.
    """
    if not device.overlaps_copies:
        yield from map(send, items)
        return
    stream = _copy_stream(device.device)
    waiting: tuple[_Sent, torch.cuda.Event] | None = None

    def receive(sent: _Sent, ready: torch.cuda.Event) -> _Sent:
        """Make the caller's stream wait for an item, and keep the item's memory until that stream is done with it."""
        current = torch.cuda.current_stream(device.device)
        current.wait_event(ready)
        for tensor in tensors(sent):
            tensor.record_stream(current)
        return sent

    for item in items:
        with torch.cuda.device(device.device), torch.cuda.stream(stream):  # so that leaving opens no other GPU
            sent = send(item), stream.record_event()
        if waiting:
            yield receive(*waiting)
        waiting = sent
    if waiting:
        yield receive(*waiting)


@lru_cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the only stream that copies to a device: torch can't reuse one stream's memory for another."""
    return torch.cuda.Stream(device)
