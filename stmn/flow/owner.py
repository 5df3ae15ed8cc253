"""The process that owns a device and computes flow there for all worker processes of the machine.

Workers decode and encode, and send chains of frames (`client.py`). All waiting chains of one size are computed as one
batch, whichever videos they belong to: while the device is busy more arrive, and the batches grow. On a CUDA device the
next batch is copied while one is computed.
"""

import os
import secrets
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from typing import TYPE_CHECKING, Any

from stmn.runtime.workers import FatalJobError, Worker, describe_error, spawn_process, start_process

if TYPE_CHECKING:
    import mmap

    from torch import Tensor

    from stmn.flow.batches import Batch, BatchMaker
    from stmn.flow.slots import Layout


#: seconds between checks whether the device has finished, while no chain is waiting
_LOOK_SECONDS = 0.001


@dataclass(frozen=True)
class FlowWork:
    """How flow is computed: the plugin, its options, and what is done with its pixels."""

    flow: str
    options: dict[str, Any]
    bound: float
    camera_motion: str


@dataclass(frozen=True)
class Address:
    """The address on which the process that owns a device listens."""

    name: str
    device: str


@contextmanager
def open_owners(
    devices: Sequence[str], work: FlowWork, spawned: bool = False
) -> Iterator[tuple[list[Address], list[str]]]:
    """Start a process for each device; leaving the block ends them.

    Args:
        devices: `cuda:N` or `cpu`.
        work: How they compute flow.
        spawned: Start new interpreters, which is slower but works in a daemonic process too.

    Yields:
        Their addresses for `RemoteFields`, and for each a line that describes what computes there.

    Raises:
        FatalJobError: A process can't start, or died in the block; the message says how.
    """
    addresses = [Address(f"stmn-{secrets.token_hex(16)}", device) for device in devices]
    start = spawn_process if spawned else start_process
    owners = [Worker(_Owner(address, work), k, start) for k, address in enumerate(addresses)]
    try:
        described = []
        for owner in owners:
            owner.give("describe")
            described.append(_wait_for(owner))
            owner.give("serve")
        try:
            yield addresses, described
        except FatalJobError as error:
            for address, owner in zip(addresses, owners, strict=True):
                if why := _find_end(owner, address.device):
                    raise FatalJobError(f"{why}; finished videos are kept: run the same command to continue") from error
            raise
    finally:
        for owner in owners:
            owner.stop()


def _wait_for(owner: Worker) -> str:
    """Return a process's answer to its first job. Raises `FatalJobError`."""
    while (outcome := owner.collect(bool(wait([owner.connection], timeout=0.5)), float("inf"))) is None:
        continue
    if outcome.error:
        raise FatalJobError(outcome.error)
    return str(outcome.result)


def _find_end(owner: Worker, device: str) -> str:
    """Return why a device's process has ended; empty if it has not."""
    with suppress(EOFError, OSError):
        while owner.connection.poll(1):
            kind, value = owner.connection.recv()
            if kind == "fatal":
                return str(value)
        return ""
    owner.process.join()
    code = owner.process.exitcode
    how = f"signal {-code}" if code and code < 0 else f"exit code {code}"
    return f"{device}: the process that computes flow died ({how})"


@dataclass(frozen=True)
class _Owner:
    """Sets up the process: a `stmn.runtime.workers.Setup`."""

    address: Address
    work: FlowWork

    def __call__(self, index: int) -> Any:
        """Return the function that does a job: "describe", then "serve", which never returns."""
        from stmn.flow.backend import describe_flow
        from stmn.flow.batches import ADVICE, BatchMaker
        from stmn.flow.estimator import load_estimator
        from stmn.runtime.device import choose_device

        work = self.work
        try:
            device = choose_device(self.address.device)
            maker = BatchMaker(load_estimator(work.flow, work.options), work.bound, work.camera_motion, device)
        except RuntimeError as error:  # full, in use by a program that lets in no other, or unable to compute
            raise FatalJobError(f"{self.address.device}: {describe_error(error)}; {ADVICE}") from error
        server = _Server(self.address, maker)

        def do(job: str) -> str:
            if job == "serve":
                server.serve()
            return describe_flow(work.flow, device.device)

        return do


@dataclass(eq=False)
class _Client:
    """A worker process, with its shared memory."""

    connection: Connection
    layout: "Layout | None" = None
    memory: "mmap.mmap | None" = None
    gone: bool = False


@dataclass(eq=False)
class Request:
    """A chain of frames that waits in a slot of a client's memory."""

    client: _Client
    slot: int
    frames: "Tensor"
    levels: "Tensor" = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.frames.shape[1], self.frames.shape[2]


class _Server:
    """Receives chains from the clients, has them computed in batches, and answers."""

    def __init__(self, address: Address, maker: "BatchMaker") -> None:
        self._address, self._maker = address, maker
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"\0{address.name}")  # an abstract name, which leaves no file behind
        self._listening.listen(1024)
        self._clients: dict[Connection, _Client] = {}
        self._waiting: list[Request] = []

    def serve(self) -> None:
        """Work until this process ends. Raises `FatalJobError` if the device has failed permanently."""
        in_flight: Batch | None = None
        while True:
            if self._waiting or (in_flight and in_flight.is_done()):
                self._receive(0)
            else:  # nothing to launch or to answer
                self._receive(_LOOK_SECONDS if in_flight else None)
                if in_flight and not self._waiting:
                    continue
            batch = self._take()
            launched = self._maker.launch(batch) if batch else None
            try:
                if in_flight:
                    self._answer(self._maker.finish(in_flight))
            except FatalJobError as error:
                for client in self._clients.values():
                    self._send(client, ("fatal", 0, str(error)))
                raise
            in_flight = launched

    def _receive(self, timeout: float | None) -> None:
        """Receive the clients' messages; wait for `timeout` seconds, or without limit if None."""
        ready = wait([self._listening, *self._clients], timeout=timeout)
        for sender in ready:
            if sender is self._listening:
                self._accept()
            elif isinstance(sender, Connection) and sender in self._clients:
                client = self._clients[sender]
                try:
                    self._handle_message(client, sender.recv())
                except (EOFError, OSError, ValueError, RuntimeError):
                    self._drop(client)

    def _accept(self) -> None:
        """Accept a new client; only processes of this user are accepted."""
        accepted, _ = self._listening.accept()
        _, user, _ = struct.unpack("3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user != os.geteuid():
            accepted.close()
            return
        connection = Connection(accepted.detach())
        self._clients[connection] = _Client(connection)

    def _handle_message(self, client: _Client, message: tuple[Any, ...]) -> None:
        """Handle a client's message. Raises `OSError` or `ValueError` if its memory can't be mapped."""
        from stmn.flow.slots import map_memory

        if message[0] == "open":
            client.layout = message[1]
            descriptor = recv_handle(client.connection)
            try:
                client.memory = map_memory(descriptor, message[1])
            finally:
                os.close(descriptor)
            return
        _, slot, count = message
        assert client.layout is not None and client.memory is not None
        frames = client.layout.frames(client.memory, slot)[:count]
        levels = client.layout.levels(client.memory, slot)[: count - 1]
        self._waiting.append(Request(client, slot, frames, levels))

    def _take(self) -> list[Request]:
        """Take waiting chains of the size that has waited longest, as many as the device takes at a time."""
        if not self._waiting:
            return []
        size = self._waiting[0].size
        room, batch = self._maker.most_pairs(*size), list[Request]()
        for request in self._waiting:
            if request.size == size and (not batch or room >= len(request.levels)):
                batch.append(request)
                room -= len(request.levels)
        self._waiting = [request for request in self._waiting if request not in batch]
        return batch

    def _answer(self, answers: Sequence[tuple[Request, str]]) -> None:
        """Send the clients the results of their chains."""
        for request, error in answers:
            self._send(request.client, ("done", request.slot, error))

    def _send(self, client: _Client, message: tuple[str, int, str]) -> None:
        """Send a message; a client that has died is dropped."""
        if not client.gone:
            try:
                client.connection.send(message)
            except OSError:
                self._drop(client)

    def _drop(self, client: _Client) -> None:
        """Forget a client that has died, and its waiting chains."""
        client.gone = True
        self._clients.pop(client.connection, None)
        client.connection.close()
        self._waiting = [request for request in self._waiting if request.client is not client]
