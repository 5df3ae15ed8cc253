"""A CPU that works as a GPU does, so that a GPU's path is tested where there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stmn.prediction import api
from stmn.runtime import device as devices
from stmn.runtime.device import Device


def cut_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on commands send 8-bit pictures to the CPU as to a GPU: it cuts, resizes and normalises them."""

    def choose_cutting(*chosen: object) -> Device:
        return replace(choose(*chosen), cuts_pictures=True)

    choose = devices.choose_device
    for module in (devices, api):
        monkeypatch.setattr(module, "choose_device", choose_cutting)


class LeadingDimensions(TorchDispatchMode):
    """Notes how far apart the rows of all operands and results of batched matrix products are, in numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        result = function(*given, **(named or {}))
        if function is torch.ops.aten.bmm.default:
            self.found += [max(tensor.stride()[-2:]) for tensor in (*given, result)]
        return result


@contextmanager
def limit_gpu_memory(more: float, device: torch.device | int = 0) -> Iterator[None]:
    """In here a CUDA device gives this process `more` bytes beside those that it has."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + more) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
