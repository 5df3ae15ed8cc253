"""Choose the devices that compute flow, and describe what computes it there, for `prepare`, `predict` and `doctor`.

torch, which takes seconds to import, is imported only if there may be a GPU.
"""

import os
from typing import TYPE_CHECKING

from stmn import registry
from stmn.errors import UsageError, count_of
from stmn.flow.kernels import kernel_name, kernel_problem
from stmn.runtime.cores import count_cores
from stmn.runtime.cuda_driver import count_gpus
from stmn.runtime.platforms import has_private_sockets

if TYPE_CHECKING:
    import torch

_KERNELS = {"c": "the C kernel", "triton": "Triton's kernels", "torch": "torch"}
#: with `auto`, a GPU computes flow only for at least this many videos, because it takes seconds to start
_FEW_VIDEOS = 20


def choose_owned(names: str, flow: str, videos: int, here: bool = True) -> list[str]:
    """Choose the devices whose own process computes flow for all workers; none: each worker computes on the CPU.

    A plugin that always computes on the CPU gets none, because the device may be meant for other stages. There is none
    on Windows either, where workers can't reach such a process.

    Args:
        names: `auto`, `cpu`, `cuda`, `cuda:N`, or several of these with commas. `auto` is the first CUDA device if
            there is one, the flow plugin computes there, and there are enough videos.
        flow: The flow plugin.
        videos: Number of videos to prepare.
        here: The work is done on this machine; on others `auto` is the CPU.

    Raises:
        UsageError: There is no such device here.
    """
    if names == "auto":
        suits = here and has_private_sockets() and videos >= _FEW_VIDEOS and has_cuda() and not _is_cpu_only(flow)
        names = "cuda:0" if suits else "cpu"
    devices = check_devices(names, here)
    if devices == ["cpu"]:
        return devices if has_private_sockets() and os.environ.get("STMN_FLOW_OWNER") == "1" else []
    return devices if has_private_sockets() and not _is_cpu_only(flow) else []


def check_devices(names: str, here: bool = True) -> list[str]:
    """Return the names of devices in a list, each once: `cuda` is `cuda:0`.

    Args:
        names: As for `choose_owned`, but not `auto`.
        here: This machine must have them.

    Raises:
        UsageError: A device is unknown or unavailable, or the CPU is one of several.
    """
    devices = []
    for name in (part.strip() for part in names.split(",")):
        kind, _, number = name.partition(":")
        if name != "cpu" and (kind != "cuda" or (number and not number.isdecimal()) or name.endswith(":")):
            raise UsageError(f"device '{names}': unknown; use auto, cpu, cuda or cuda:N, or several: cuda:0,cuda:1")
        if kind == "cuda" and here:
            from stmn.runtime.device import find_device

            find_device(name)  # opens no context on the device: its owner does
        name = "cuda:0" if name == "cuda" else name
        devices += [name] if name not in devices else []
    if len(devices) > 1 and "cpu" in devices:
        raise UsageError(f"device '{names}': several devices must all be CUDA devices, such as cuda:0,cuda:1")
    return devices


def has_cuda() -> bool:
    """True if torch can use the first CUDA device. Asks the driver first, as torch takes seconds to import."""
    if not count_gpus():
        return False
    from stmn.runtime.device import find_device

    return find_device("auto").type == "cuda"


def _is_cpu_only(flow: str) -> bool:
    """True if a flow plugin always computes on the CPU, wherever its frames are."""
    return bool(getattr(registry.load("flow", flow), "cpu_only", False)) if flow != "tvl1" else False


def describe_flow(flow: str, device: "torch.device | str") -> str:
    """Describe what computes the flow of a plugin on a device: "tvl1 by the C kernel on the CPU (8 cores)".

    If a GPU has no fast kernel of TV-L1, the line says why; for a CPU, a notice does.
    """
    if flow != "tvl1":
        return f"{flow} on {describe_device(device)}"
    kernel = kernel_name(device)
    problem = kernel_problem(device) if kernel == "torch" and str(device) != "cpu" else None
    reason = f", which is slow: {problem}" if problem else ""
    return f"tvl1 by {_KERNELS[kernel]} on {describe_device(device)}{reason}"


def describe_backend(device: str = "auto") -> str:
    """Describe what computes TV-L1 on a device: "tvl1 by the C kernel on the CPU (8 cores)".

    The first call may compile a kernel, in 1 to 2 seconds.

    Args:
        device: `auto` is a CUDA device if there is one.

    Raises:
        UsageError: There is no such device.
    """
    if device == "auto" and has_cuda():
        return f"{describe_flow('tvl1', 'cuda:0')}; on the CPU for fewer than {_FEW_VIDEOS} videos"
    return describe_flow("tvl1", "cpu" if device == "auto" else check_devices(device)[0])


def describe_device(device: "torch.device | str") -> str:
    """Name a device: "cuda:0 (NVIDIA H100)", "the CPU (8 cores)"."""
    if str(device).startswith("cuda"):
        import torch

        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"the CPU ({count_of(count_cores(), 'core')})" if str(device) == "cpu" else str(device)
