"""TV-L1 optical flow, the flow of two-stream networks: which kernel runs, and with what."""

import os

import torch
from torch import Tensor

from stmn.errors import UsageError
from stmn.flow import _tvl1_c, _tvl1_torch
from stmn.flow._frames import check_frames
from stmn.flow._knobs import Knobs
from stmn.flow._pyramid import pyramid


def tvl1(
    first: Tensor,
    second: Tensor,
    *,
    lambda_: float = 0.15,
    theta: float = 0.3,
    tau: float = 0.25,
    scale: float = 0.5,
    scales: int = 8,
    warps: int = 3,
    iterations: int = 12,
    median: int = 3,
    smoothing: float = 0.45,
    epsilon: float = 0.01,
) -> Tensor:
    """Displacement of every pixel from the first frame to the second (Zach, Pock, Bischof 2007).

    Args:
        first: (B, H, W) grey frames, uint8 or floating point, 0..255 in either case.
        second: (B, H, W), as `first`; each pair is estimated on its own.
        lambda_: weight of the data term against smoothness, for grey values in 0..255.
        theta: how loosely the data term is tied to the smoothness term.
        tau: step of the dual iteration, at most 0.25.
        scale: size of a pyramid level relative to the finer one, 0.3..0.95.
        scales: most levels; small frames have fewer, none smaller than 16 pixels.
        warps: most linearisations a level.
        iterations: primal-dual iterations a warp.
        median: side of the median filter after each warp: 3, 5, or 0 for none.
        smoothing: sigma (pixels) of the Gaussian over both frames beforehand.
        epsilon: a level ends when a warp moved the flow by less than this, root mean square, in pixels.

    Returns:
        (B, 2, H, W) float32 on the frames' device: u to the right, v downward, in pixels.
        A pair's flow has the same bits whatever its batch and the number of threads.

    Raises:
        UsageError: frames or parameters that do not fit.
    """
    check_frames("tvl1", first, second)
    knobs = Knobs(lambda_, theta, tau, scale, scales, warps, iterations, median, smoothing, epsilon)
    height, width = first.shape[1:]
    levels = pyramid(height, width, scale, scales, smoothing)
    if not len(first):
        return first.new_empty(0, 2, height, width, dtype=torch.float32)
    first, second = (frames.detach().float().contiguous() for frames in (first, second))
    solver = _tvl1_c if first.device.type == "cpu" and kernel_name() == "c" else _tvl1_torch
    return solver.solve(first, second, levels, knobs)


def kernel_name() -> str:
    """`"c"` or `"torch"`: what computes TV-L1 for CPU tensors here. Other devices always use torch.

    The variable STMN_FLOW_KERNEL forces either; `kernel_problem()` says why torch was chosen unasked.
    """
    wanted = os.environ.get("STMN_FLOW_KERNEL", "")
    if wanted not in ("", "c", "torch"):
        raise UsageError(f"STMN_FLOW_KERNEL is '{wanted}'; it must be 'c' or 'torch'")
    if wanted == "torch":
        return "torch"
    problem = kernel_problem()
    if problem and wanted == "c":
        raise UsageError(f"STMN_FLOW_KERNEL asks for the C kernel of TV-L1, but: {problem}")
    return "torch" if problem else "c"


def kernel_problem() -> str | None:
    """Why there is no C kernel here, or None when there is. The first call may compile it (a second or two)."""
    return _tvl1_c.problem()
