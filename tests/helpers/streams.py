"""CUDA's streams and events on the simulated GPU (`helpers.simulated_gpu`), where there is no GPU.

Operations on the GPU are done at once, but copies between the host and the GPU that need not be waited for are done
as late as CUDA may do them: when something waits for them. Until then their target holds garbage. So a copy that is
read too early, or whose source is changed too early, gives wrong numbers. Two mistakes are errors here:

- a stream uses what another one computes, and does not wait for it;
- a stream uses another one's memory, and torch was not told (`record_stream`), so that it may serve another tensor.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor

from helpers import simulated_gpu
from helpers.simulated_gpu import OnGpu
from stmn.runtime.device import Device

_GARBAGE = 165


class Stream:
    """A queue of the GPU.

    Attributes:
        done: the number of its operations.
        knows: another stream -> the number of its operations that are over when this stream goes on.
        waiting: copies that are not done yet: the number that the stream had reached, whether the target is on the
            GPU, and what does the copy.
    """

    def __init__(self, *_: object) -> None:
        self.done = 0
        self.knows: dict[Stream, int] = {}
        self.waiting: list[tuple[int, bool, Callable[[], object]]] = []

    def copy_up_to(self, number: int, to_gpu_alone: bool = False) -> None:
        """Do the copies that stand before a number."""
        for copy in list(self.waiting):
            if copy[0] <= number and (copy[1] or not to_gpu_alone):
                self.waiting.remove(copy)
                copy[2]()

    def record_event(self, event: "Event | None" = None) -> "Event":
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        assert event.stream is not None, "an event that was never recorded is waited for"
        event.stream.copy_up_to(event.number, to_gpu_alone=True)
        for stream, number in [*event.knew.items(), (event.stream, event.number)]:
            self.knows[stream] = max(self.knows.get(stream, 0), number)

    def wait_stream(self, other: "Stream") -> None:
        self.wait_event(other.record_event())


class Event:
    """A place in a stream's queue."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self.stream: Stream | None = None

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream or current_stream()
        self.number, self.knew, self.time = self.stream.done, dict(self.stream.knows), time.monotonic()

    def query(self) -> bool:
        return not any(number <= self.number for number, *_ in self.stream.waiting)

    def synchronize(self) -> None:
        simulated_gpu.note_wait("synchronize")
        self.stream.copy_up_to(self.number)

    def elapsed_time(self, later: "Event") -> float:
        return (later.time - self.time) * 1000


class _Memory:
    """What is known of the memory of a tensor on the GPU: its stream, who may use it, and who wrote it when."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.users = stream, {stream}
        self.writer, self.number = stream, stream.done


_default = Stream()
_own = threading.local()
_memory: dict[int, _Memory] = {}


def current_stream(_: object = None) -> Stream:
    """The stream that this thread gives its work to."""
    return getattr(_own, "stream", _default)


@contextmanager
def _use(stream: Stream) -> Iterator[None]:
    before, _own.stream = current_stream(), stream
    try:
        yield
    finally:
        _own.stream = before


def _place(tensor: Tensor) -> int:
    held = tensor.held if isinstance(tensor, OnGpu) else tensor
    return held.untyped_storage().data_ptr()


def _record_stream(tensor: Tensor, stream: Stream) -> None:
    _memory[_place(tensor)].users.add(stream)


class _Streams:
    """Sees all operations on the GPU: a `helpers.simulated_gpu.Watch`."""

    def before(self, name: str, operands: list[OnGpu], host_waits: bool) -> None:
        """Check what an operation uses, and do the copies that it has to find done."""
        stream = current_stream()
        stream.done += 1
        stream.copy_up_to(stream.done, to_gpu_alone=not host_waits)
        for memory in filter(None, (_memory.get(_place(one)) for one in operands)):
            if memory.writer is not stream and stream.knows.get(memory.writer, 0) < memory.number:
                raise AssertionError(f"{name}: uses what another stream may still compute")
            if stream not in memory.users:
                raise AssertionError(f"{name}: uses the memory of another stream, which does not know of it")

    def after(self, name: str, operands: list[OnGpu], results: list[OnGpu]) -> None:
        """What it made or changed is its stream's."""
        known = {_place(one) for one in operands}
        for one in results:
            if _place(one) not in known:
                _memory[_place(one)] = _Memory(current_stream())
            elif name.endswith("_"):
                self._written(one)

    def copy_late(self, target: Tensor, source: Tensor) -> None:
        """Copy when something waits for it; until then the target holds garbage."""
        stream, to_gpu = current_stream(), isinstance(target, OnGpu)
        into = target.held if to_gpu else target
        into.copy_(torch.full(into.shape, _GARBAGE))
        values = source if to_gpu else source.held.clone()  # later work on the GPU comes after the copy
        stream.waiting.append((stream.done, to_gpu, lambda: into.copy_(values)))
        if to_gpu:
            self._written(target)

    def _written(self, tensor: OnGpu) -> None:
        if memory := _memory.get(_place(tensor)):
            memory.writer, memory.number = current_stream(), current_stream().done


@contextmanager
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In here, within `on_gpu`, the GPU has streams, and is used as a CUDA device is."""
    cuda = {
        "Stream": Stream, "Event": Event, "stream": _use, "current_stream": current_stream,
        "device": lambda _: nullcontext(), "synchronize": lambda _=None: _default.copy_up_to(_default.done),
        "empty_cache": lambda: None, "mem_get_info": lambda _=None: (2**30, 2**31), "memory_reserved": lambda _: 0,
        "memory_allocated": lambda _: 0,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        for name, stand_in in cuda.items():
            patch.setattr(torch.cuda, name, stand_in)
        patch.setattr(Tensor, "record_stream", _record_stream)
        patch.setattr(Tensor, "pin_memory", lambda tensor: tensor.clone())
        patch.setattr(OnGpu, "is_cuda", True, raising=False)
        patch.setattr(Device, "is_cuda", property(lambda device: device.device.type == "gpu"))
        patch.setattr(Device, "overlaps_copies", property(lambda device: device.device.type == "gpu"))
        patch.setattr(simulated_gpu, "watch", _Streams())
        _memory.clear()
        try:
            yield
        finally:
            _default.copy_up_to(_default.done)
