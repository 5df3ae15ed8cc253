"""The one place that decides what runs where and how: device, precision, memory layout, threads."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from stmn.errors import UsageError
from stmn.runtime import torchrun

#: `auto`: bfloat16 on a CUDA device that has it, float16 on an older one, float32 on a CPU
Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Device:
    """A device and what pays on it. `precision` is that of convolutions and products; weights stay float32."""

    device: torch.device
    precision: torch.dtype = torch.float32

    @property
    def is_cuda(self) -> bool:
        """True on a CUDA device."""
        return self.device.type == "cuda"

    @property
    def has_own_convolutions(self) -> bool:
        """True where this project's convolutions work: on a CPU, in float32."""
        return self.device.type == "cpu" and self.precision == torch.float32

    def autocast(self) -> AbstractContextManager[Any]:
        """Arithmetic in `precision` where that is safe."""
        return nullcontext() if self.precision == torch.float32 else torch.autocast(self.device.type, self.precision)

    def scaler(self) -> GradScaler:
        """Scales losses so that gradients don't vanish in float16; does nothing in other precisions."""
        return GradScaler(self.device.type, enabled=self.precision == torch.float16)

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network there, weights of 2D convolutions in channels_last.

        Measured: on a CPU a forward pass takes three quarters of the time, and a training step the same
        (docs/training.md); on a GPU it is what half precision wants.
        """
        return network.to(self.device).to(memory_format=torch.channels_last)

    def move(self, tensor: Tensor) -> Tensor:
        """Copy a tensor there; from pinned memory without waiting."""
        return tensor.to(self.device, non_blocking=self.is_cuda)

    def move_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`move` for each tensor of a batch."""
        return {name: self.move(tensor) for name, tensor in batch.items()}

    @property
    def loader_threads(self) -> int:
        """Threads that prepare batches: on a CPU one, which works where the network leaves a core idle."""
        from stmn.runtime.workers import count_cores

        return min(8, count_cores()) if self.is_cuda else 1


def choose_device(name: str = "auto", precision: Precision = "auto") -> Device:
    """`auto` is CUDA where there is one, and each of torchrun's processes takes one of its own.

    Raises `UsageError` when the device named is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device '{name}': unknown; write auto, cpu or cuda") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"device '{name}': this machine has no CUDA device that torch {torch.__version__} can use")
        if torchrun.size() > 1:
            device = torch.device("cuda", torchrun.local_rank())
        if (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(f"device '{device}': this machine has {torch.cuda.device_count()} CUDA devices")
    return Device(device, dtype_of(precision, device))


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """What a precision means on a device."""
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
