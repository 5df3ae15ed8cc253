"""The client in a worker process, whose flow is computed by the process that owns a device."""

import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import Any

from torch import Tensor

from stmn.errors import StmnError
from stmn.flow.slots import Layout, make_memory
from stmn.runtime.workers import FatalJobError

#: chains in progress while the next one is decoded
_AHEAD = 2
#: largest number of pairs in a chain, and of bytes of its frames unless it is a single pair
_PAIRS, _FRAME_BYTES = 16, 2**25
#: seconds without an answer after which the device counts as lost
_PATIENCE = 300.0


class RemoteFields:
    """A connection to the process that owns a device; a `FieldMaker`.

    Args:
        address: The address of that process, from `stmn.flow.owner.open_owners`.
        device: Its device, for messages.

    Raises:
        FatalJobError: That process is gone; all methods may raise it.
    """

    def __init__(self, address: str, device: str) -> None:
        self._device = device
        connecting = socket.socket(socket.AF_UNIX)
        try:
            connecting.connect(f"\0{address}")
        except OSError as error:
            connecting.close()
            raise self._gone() from error
        self._connection = Connection(connecting.detach())
        self._layout: Layout | None = None
        self._answers: dict[int, str] = {}
        self._free: list[int] = []

    @property
    def ahead(self) -> int:
        """2: while one chain is computed, the next is sent and a third is decoded."""
        return _AHEAD

    def pairs_at_a_time(self, height: int, width: int) -> int:
        """Return 16, or fewer if the frames are large."""
        return max(1, min(_PAIRS, _FRAME_BYTES // (height * width * 3)))

    def start(self, chain: Tensor) -> Callable[[], Tensor]:
        """Send a chain of frames; the returned function waits for its levels, and must be called."""
        height, width = chain.shape[1:3]
        layout = Layout(_AHEAD + 1, self.pairs_at_a_time(height, width), height, width)
        if layout != self._layout:
            self._open(layout)
        slot = self._free.pop()
        layout.frames(self._memory, slot)[: len(chain)] = chain
        self._send(("flow", slot, len(chain)))
        return lambda: self._collect(slot, len(chain) - 1)

    def _open(self, layout: Layout) -> None:
        """Share memory for frames of another size. No chain is in progress: each video is finished before the next."""
        descriptor, self._memory = make_memory(layout)
        try:
            self._send(("open", layout))
            send_handle(self._connection, descriptor, os.getpid())
        except OSError as error:
            raise self._gone() from error
        finally:
            os.close(descriptor)
        self._layout, self._free = layout, list(range(layout.count))

    def _collect(self, slot: int, pairs: int) -> Tensor:
        """Wait for the levels of a slot. Raises `StmnError` if they could not be computed."""
        assert self._layout is not None
        while slot not in self._answers:
            kind, number, error = self._receive()
            if kind == "fatal":
                raise FatalJobError(error)
            self._answers[number] = error
        error = self._answers.pop(slot)
        levels = self._layout.levels(self._memory, slot)[:pairs].clone()
        self._free.append(slot)
        if error:
            raise StmnError(error)
        return levels

    def _send(self, message: Any) -> None:
        """Send a message."""
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._gone() from error

    def _receive(self) -> Any:
        """Wait for the next answer."""
        try:
            if self._connection.poll(_PATIENCE):
                return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._gone() from error
        raise FatalJobError(f"{self._device}: the process that computes flow has not answered for {_PATIENCE:g} s")

    def _gone(self) -> FatalJobError:
        """Return the error for a process that has ended."""
        return FatalJobError(f"{self._device}: the process that computes flow is gone")
