"""Which devices compute flow, and what computes it there, for `prepare`, `predict` and `doctor`."""

import torch

from stmn.errors import UsageError
from stmn.flow.tvl1 import kernel_name, kernel_problem
from stmn.runtime.cores import count_cores
from stmn.runtime.device import choose_device

_KERNELS = {"c": "the C kernel", "triton": "Triton's kernels", "torch": "torch"}


def choose_devices(names: str) -> list[torch.device]:
    """The devices of a list such as `cuda:0,cuda:1`, each once; a single name is one as well.

    Raises:
        UsageError: There is no such device here, or `auto` or `cpu` is one of several.
    """
    devices = []
    for name in names.split(","):
        if not name.strip():
            raise UsageError(f"device '{names}': a name is missing; write cuda:0,cuda:1")
        device = choose_device(name.strip()).device
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", 0)
        if device not in devices:
            devices.append(device)
    if len(devices) > 1 and any(device.type == "cpu" for device in devices):
        raise UsageError(f"device '{names}': several devices must all be CUDA devices, such as cuda:0,cuda:1")
    return devices


def describe_backend(device: torch.device | str = "auto") -> str:
    """Say in a line what computes TV-L1 on a device, and where: "TV-L1 by the C kernel on the CPU (8 cores)".

    Where it is not the fastest kernel, the line says why. The first call may compile a kernel, in 1 to 2 seconds.

    Args:
        device: `auto` is a CUDA device if there is one.

    Raises:
        UsageError: There is no such device.
    """
    device = choose_device(str(device)).device
    kernel, problem = kernel_name(device), kernel_problem(device)
    reason = f", which is slow: {problem}" if kernel == "torch" and problem else ""
    return f"TV-L1 by {_KERNELS[kernel]} on {describe_device(device)}{reason}"


def describe_device(device: torch.device) -> str:
    """Name a device: "cuda:0 (NVIDIA H100)", "the CPU (8 cores)"."""
    if device.type == "cuda":
        return f"cuda:{device.index or 0} ({torch.cuda.get_device_name(device)})"
    cores = count_cores()
    return f"the CPU ({cores} core{'s' * (cores != 1)})" if device.type == "cpu" else str(device)
