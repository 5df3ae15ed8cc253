"""Choose the kernel that computes TV-L1 on a device."""

import os
from typing import TYPE_CHECKING

from stmn.errors import UsageError
from stmn.flow import _tvl1_library

if TYPE_CHECKING:
    import torch


def kernel_name(device: "torch.device | str" = "cpu") -> str:
    """Return the kernel of TV-L1 for tensors on a device: "c" on a CPU, "triton" on a CUDA device, "torch" anywhere.

    It is the fastest one unless there is a `kernel_problem`. The environment variable STMN_FLOW_KERNEL names another
    one, with no effect on devices that this kernel is not made for.

    Raises:
        UsageError: STMN_FLOW_KERNEL has another value, or asks for a kernel that is unavailable.
    """
    wanted = os.environ.get("STMN_FLOW_KERNEL", "")
    if wanted not in ("", "c", "triton", "torch"):
        raise UsageError(f"STMN_FLOW_KERNEL is '{wanted}'; it must be 'c', 'triton' or 'torch'")
    if wanted == "torch":
        return "torch"
    if wanted == "triton" and is_interpreted():
        return "triton"
    fastest = {"cpu": "c", "cuda": "triton"}.get(str(device).partition(":")[0], "torch")
    problem = kernel_problem(device)
    if problem and wanted == fastest:
        raise UsageError(f"STMN_FLOW_KERNEL is '{wanted}', but this kernel of TV-L1 is unavailable: {problem}")
    return "torch" if problem else fastest


def kernel_problem(device: "torch.device | str" = "cpu") -> str | None:
    """Return why the fastest kernel (C on a CPU, Triton on CUDA) is unavailable on a device; None if it is available.

    The first call may compile it, in 1 to 2 seconds.
    """
    if str(device) == "cpu":
        return _tvl1_library.load()[1]
    import torch

    from stmn.flow import _tvl1_triton

    return _tvl1_triton.problem(torch.device(device))


def is_interpreted() -> bool:
    """True if Triton's interpreter runs its kernels, on any device (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET") == "1"
