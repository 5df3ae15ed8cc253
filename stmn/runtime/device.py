"""The only place that decides where and how things run: device, precision, memory layout, threads."""

import os
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from stmn.errors import UsageError, count_of
from stmn.runtime import torchrun
from stmn.runtime.cuda_driver import read_capability
from stmn.runtime.notices import notice

#: `auto`: bfloat16 on a CUDA device that has it, float16 on an older one, float32 on a CPU; `tf32`: float32 with
#: products that CUDA computes with 10-bit fractions
Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
#: a precision that does not depend on the device; testing has only these
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
        threads: threads that make batches; None for the device's default.
        tf32: products of float32 numbers may be computed with 10-bit fractions.
    """

    device: torch.device
    precision: torch.dtype = torch.float32
    cuts_pictures: bool = False
    threads: int | None = None
    tf32: bool = False

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
        """True if this project's convolutions work: on a CPU, in float32."""
        return self.device.type == "cpu" and self.precision == torch.float32

    @property
    def allows_tf32_input(self) -> bool:
        """True if a network's input may be computed in TF32, because the network rounds it just as coarsely."""
        return self.is_cuda and (self.tf32 or self.precision != torch.float32)

    @property
    def overlaps_copies(self) -> bool:
        """True if copies from pinned memory can run while it computes: on an available CUDA device."""
        return self.is_cuda and torch.cuda.is_available()

    def free_memory(self) -> int | None:
        """Return the bytes that this process can still allocate on an available CUDA device; None otherwise."""
        if not self.overlaps_copies:
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        return free + torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)

    @property
    def runs_ahead(self) -> bool:
        """True if work is queued on the device faster than it is done, so the host should not wait for each result.

        With float16, the loss scale is decided after each step, so there the host waits.
        """
        return self.is_cuda and self.precision != torch.float16

    @property
    def loader_threads(self) -> int:
        """Threads that make batches: by default one on a CPU, which uses cores that the network leaves idle."""
        from stmn.runtime.cores import count_cores

        if self.threads is not None:
            return self.threads
        return max(1, min(16, count_cores() // torchrun.local_size())) if self.is_cuda else 1

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context that computes in `precision` where that is safe."""
        return nullcontext() if self.precision == torch.float32 else torch.autocast(self.device.type, self.precision)

    def scaler(self) -> GradScaler:
        """Return a loss scaler that keeps float16 gradients from vanishing; in other precisions it does nothing."""
        return GradScaler(self.device.type, enabled=self.precision == torch.float16)

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, weights of 2D convolutions in channels_last.

        On a CPU, channels_last makes a forward pass faster and a training step no slower
        (docs/decisions/channels-last.md); on a GPU, half precision needs it.
        """
        return network.to(self.device).to(memory_format=torch.channels_last)

    def move(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the device; does not wait if it is in pinned memory."""
        return tensor.to(self.device, non_blocking=self.is_cuda)

    def move_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`move` each tensor of a batch."""
        return {name: self.move(tensor) for name, tensor in batch.items()}


def choose_device(name: str = "auto", precision: Precision = "auto", threads: int | None = None) -> Device:
    """Return the device for a name and a precision.

    A CUDA device becomes the current one, so that nothing opens a context on another.

    Args:
        name: `auto` (the first CUDA device if torch can use it), `cpu`, `cuda` (`cuda:0`) or `cuda:N`. Under torchrun
            each process gets its own GPU.
        precision: `auto` for the device's best.
        threads: threads that make batches; None for the device's default.

    Raises:
        UsageError: there is no such precision, or no such device here.
    """
    if precision not in ("auto", "tf32", *_DTYPES):
        raise UsageError(f"precision '{precision}': unknown; use {', '.join(_DTYPES)}")
    device = find_device(name)
    if device.type == "cuda":
        # read by cuBLAS when CUDA starts; without it, the order of sums in products may vary
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.cuda.set_device(device)
    if precision == "tf32":
        _check_tf32(device)
    return Device(device, _dtype(precision, device), device.type == "cuda", threads, precision == "tf32")


def find_device(name: str = "auto") -> torch.device:
    """Return the device for a name, a CUDA device with its number, without opening a context on it.

    Args:
        name: as for `choose_device`.

    Raises:
        UsageError: there is no such device here.
    """
    auto = name == "auto"
    if auto:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if "," in name:
            raise UsageError(
                f"device '{name}': only prepare uses several; name one, or start a process for each GPU (torchrun "
                f"--nproc-per-node {len(name.split(','))} -m stmn ...)"
            )
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device '{name}': unknown; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"device '{name}': this machine has no CUDA device that torch {torch.__version__} can use")
        count = torch.cuda.device_count()
        device = torch.device("cuda", device.index or 0)
        if torchrun.size() > 1:
            device = torch.device("cuda", torchrun.local_rank())
            if torchrun.local_rank() >= count:
                raise UsageError(
                    f"torchrun started more processes than this machine has CUDA devices, {count}: use "
                    f"--nproc-per-node {count}, or --device cpu"
                )
        if device.index >= count:
            raise UsageError(f"device '{device}': this machine has {count_of(count, 'CUDA device')}")
        if problem := _find_problem(device):
            if not auto or torchrun.size() > 1:  # all processes of torchrun must choose alike
                raise UsageError(f"device '{device}': {problem}; use --device cpu, another GPU, or another torch")
            notice(f"{device} is not used: {problem}")
            return torch.device("cpu")
    return device


def _find_problem(device: torch.device) -> str:
    """Return why torch has no code for a CUDA device; empty if it may have some. Opens no context on it."""
    capability = read_capability(device.index)
    built = [int(number) for number in re.findall(r"(?:sm|compute)_(\d+)", " ".join(torch.cuda.get_arch_list()))]
    if capability is None or not built or 10 * capability[0] + capability[1] >= min(built):
        return ""
    has, least = (f"{number // 10}.{number % 10}" for number in (10 * capability[0] + capability[1], min(built)))
    return f"its compute capability is {has}, and torch {torch.__version__} is built for {least} and higher"


def has_fast_bfloat16() -> bool:
    """True if this CPU multiplies bfloat16 numbers in hardware: AVX-512 BF16, AMX, or Arm's BF16."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _check_tf32(device: torch.device) -> None:
    """Raise `UsageError` if a device has no TF32."""
    if device.type != "cuda":
        raise UsageError(f"precision 'tf32': only GPUs have it, and the device is {device}; use float32")
    if torch.cuda.get_device_capability(device) < (8, 0):
        raise UsageError(f"precision 'tf32': {torch.cuda.get_device_name(device)} has none; use float32 or float16")


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of a precision on a device."""
    if precision == "tf32":
        return torch.float32
    if precision != "auto":
        return _DTYPES[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
