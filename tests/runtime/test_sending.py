"""Work is sent to a GPU one item ahead, on a stream of its own, which the GPU's other work waits for."""

from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from stmn.runtime.device import Device, choose_device
from stmn.runtime.sending import send_ahead


def test_without_a_gpu_items_are_sent_when_they_are_asked_for():
    sent: list[int] = []

    def send(item: int) -> int:
        sent.append(item)
        return item

    found = send_ahead([1, 2, 3], send, lambda _: [], choose_device("cpu"))
    assert sent == [] and next(found) == 1 and sent == [1] and list(found) == [2, 3]


class Streams:
    """Stands in for CUDA's streams where there is no GPU, and writes down what they are asked."""

    def __init__(self, log: list[str]) -> None:
        self.log, self.count, self.within = log, 0, False

    def record_event(self) -> int:
        assert self.within, "the event is of the stream that copies"
        self.count += 1
        return self.count

    def wait_event(self, number: int) -> None:
        assert not self.within, "it is the caller's stream that waits"
        self.log.append(f"wait for {number}")

    @contextmanager
    def use(self, _: object) -> Any:
        self.within = True
        yield
        self.within = False


class Memory:
    """A tensor that notes which streams use it."""

    def __init__(self, name: int, log: list[str]) -> None:
        self.name, self.log = name, log

    def record_stream(self, _: object) -> None:
        self.log.append(f"{self.name} is used")


def test_next_item_is_on_its_way_while_one_is_used(monkeypatch):
    log: list[str] = []
    streams = Streams(log)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: streams)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "stream", streams.use)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: streams)
    monkeypatch.setattr(Device, "overlaps_copies", True)

    def send(item: int) -> Memory:
        assert streams.within
        log.append(f"send {item}")
        return Memory(item, log)

    for sent in send_ahead([1, 2, 3], send, lambda sent: [sent], choose_device("cpu")):
        log.append(f"work on {sent.name}")  # noqa: PERF401 (each before the next is sent)
    assert log == [
        "send 1", "send 2", "wait for 1", "1 is used", "work on 1", "send 3", "wait for 2", "2 is used", "work on 2",
        "wait for 3", "3 is used", "work on 3",
    ]  # fmt: skip


@pytest.mark.cuda
def test_gpu_works_on_what_was_sent():
    """Many copies and computations in flight at once, each of its own values."""
    device = choose_device("cuda")
    items = [torch.full((2**22,), float(number)).pin_memory() for number in range(24)]

    def send(item: Tensor) -> Tensor:
        return device.move(item) * 2

    sums = [sent.sum() for sent in send_ahead(items, send, lambda sent: [sent], device)]
    assert [float(total) for total in sums] == [2 * number * 2.0**22 for number in range(24)]
