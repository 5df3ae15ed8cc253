"""Send work to a device ahead of its use, so that copying hides behind computing."""

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
    """Send items one after the other; on CUDA each is on its way while the one before it is worked on.

    There `send` runs on a stream of its own. What it returns is ready for the stream of the caller. Two items are on
    the device at a time: the one in use and the next.

    Args:
        items: what is sent, such as batches in pinned memory.
        send: copies an item to the device, and may compute there; it must not wait for the device.
        tensors: all tensors of what `send` returns.
        device: the device.
    """
    if not device.copies_aside:
        yield from map(send, items)
        return
    stream = _copy_stream(device.device)
    waiting: tuple[_Sent, torch.cuda.Event] | None = None

    def receive(sent: _Sent, ready: torch.cuda.Event) -> _Sent:
        """Make the caller's stream wait for an item, and keep its memory until that stream is done with it."""
        current = torch.cuda.current_stream(device.device)
        current.wait_event(ready)
        for tensor in tensors(sent):
            tensor.record_stream(current)
        return sent

    for item in items:
        with torch.cuda.device(device.device), torch.cuda.stream(stream):  # which opens no other GPU on its way back
            sent = send(item), stream.record_event()
        if waiting:
            yield receive(*waiting)
        waiting = sent
    if waiting:
        yield receive(*waiting)


@lru_cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """The one stream that copies to a device: memory that torch keeps for one stream serves no other."""
    return torch.cuda.Stream(device)
