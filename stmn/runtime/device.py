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
#: a precision that does not depend on the device: testing has these alone
NamedPrecision = Literal["float32", "bfloat16", "float16"]
_DTYPES: dict[NamedPrecision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Device:
    """A device and how to use it well.

    Attributes:
        device: torch's device.
        precision: type of convolutions and matrix products; weights stay float32.
        cuts_pictures: pictures are sent to it as 8-bit levels, to be cut, resized and normalised there.
        threads: threads that make batches; None for what suits the device.
    """

    device: torch.device
    precision: torch.dtype = torch.float32
    cuts_pictures: bool = False
    threads: int | None = None

    @property
    def is_cuda(self) -> bool:
        """True on a CUDA device."""
        return self.device.type == "cuda"

    @property
    def precision_name(self) -> NamedPrecision:
        """`float32`, `bfloat16` or `float16`."""
        return next(name for name, dtype in _DTYPES.items() if dtype == self.precision)

    @property
    def has_own_convolutions(self) -> bool:
        """True where this project's convolutions work: on a CPU, in float32."""
        return self.device.type == "cpu" and self.precision == torch.float32

    @property
    def copies_aside(self) -> bool:
        """True where copies from pinned memory can run while it computes: on a CUDA device that is here."""
        return self.is_cuda and torch.cuda.is_available()

    def free_memory(self) -> int | None:
        """Bytes that this process may still take of a CUDA device that is here; None otherwise."""
        if not self.copies_aside:
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        return free + torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)

    @property
    def loader_threads(self) -> int:
        """Threads that make batches: by default one on a CPU, which works where the network leaves a core idle."""
        from stmn.runtime.cores import count_cores

        if self.threads is not None:
            return self.threads
        return min(8, count_cores()) if self.is_cuda else 1

    def autocast(self) -> AbstractContextManager[Any]:
        """A context that computes in `precision` where that is safe."""
        return nullcontext() if self.precision == torch.float32 else torch.autocast(self.device.type, self.precision)

    def scaler(self) -> GradScaler:
        """A loss scaler that keeps float16 gradients from vanishing; in other precisions it does nothing."""
        return GradScaler(self.device.type, enabled=self.precision == torch.float16)

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, weights of 2D convolutions in channels_last.

        On a CPU a forward pass is faster with it and a training step as fast (docs/decisions/channels-last.md); on a
        GPU half precision needs it.
        """
        return network.to(self.device).to(memory_format=torch.channels_last)

    def move(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the device; does not wait if it lies in pinned memory."""
        return tensor.to(self.device, non_blocking=self.is_cuda)

    def move_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`move` each tensor of a batch."""
        return {name: self.move(tensor) for name, tensor in batch.items()}


def choose_device(name: str = "auto", precision: Precision = "auto", threads: int | None = None) -> Device:
    """The device of a name and a precision.

    Args:
        name: `auto` (CUDA if available), `cpu`, `cuda` or `cuda:N`. Under torchrun each process gets its own GPU.
        precision: `auto` for what the device does best.
        threads: threads that make batches; None for what suits the device.

    Raises:
        UsageError: there is no such precision, or no such device here.
    """
    if precision not in ("auto", *_DTYPES):
        raise UsageError(f"precision '{precision}': unknown; use {', '.join(_DTYPES)}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device '{name}': unknown; use auto, cpu or cuda") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"device '{name}': this machine has no CUDA device that torch {torch.__version__} can use")
        if torchrun.size() > 1:
            device = torch.device("cuda", torchrun.local_rank())
        if (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(f"device '{device}': this machine has {torch.cuda.device_count()} CUDA devices")
    return Device(device, _dtype(precision, device), device.type == "cuda", threads)


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What a precision means on a device."""
    if precision != "auto":
        return _DTYPES[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
