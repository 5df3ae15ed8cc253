"""The one place that decides what runs where and how: device, precision, memory layout."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stmn.errors import UsageError


@dataclass(frozen=True)
class Device:
    """A device and what pays on it."""

    device: torch.device

    @property
    def is_cuda(self) -> bool:
        """True on a CUDA device."""
        return self.device.type == "cuda"

    def autocast(self) -> AbstractContextManager[Any]:
        """bf16 arithmetic on CUDA, float32 elsewhere."""
        return torch.autocast("cuda", torch.bfloat16) if self.is_cuda else nullcontext()

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network there, weights of 2D convolutions in channels_last."""
        return network.to(self.device).to(memory_format=torch.channels_last)

    def move(self, tensor: Tensor) -> Tensor:
        """Copy a tensor there; from pinned memory without waiting."""
        return tensor.to(self.device, non_blocking=self.is_cuda)

    @property
    def loader_threads(self) -> int:
        """Threads that prepare batches: none on a CPU, where they would only take the network's cores."""
        from stmn.workers import cores

        return min(8, cores()) if self.is_cuda else 0


def choose(name: str = "auto") -> Device:
    """`auto` is CUDA where there is one. Raises `UsageError` when the device named is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device '{name}': unknown; write auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device '{name}': this machine has no CUDA device that torch {torch.__version__} can use")
    return Device(device)
