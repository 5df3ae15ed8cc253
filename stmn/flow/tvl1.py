"""TV-L1 optical flow, as used by two-stream networks: check the arguments and choose the kernel."""

import torch
from torch import Tensor

from stmn.flow import _tvl1_c, _tvl1_torch, _tvl1_triton
from stmn.flow._frames import check_frames
from stmn.flow._parameters import Parameters
from stmn.flow._pyramid import pyramid
from stmn.flow.kernels import kernel_name


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
    """Estimate the displacement of every pixel from the first frame to the second (Zach, Pock, Bischof 2007).

    Args:
        first: (B, H, W) grey frames, uint8 or floating point, in 0..255 either way.
        second: (B, H, W), as `first`.
        lambda_: Weight of the data term relative to smoothness, for grey values in 0..255.
        theta: How loosely the data term is coupled to the smoothness term.
        tau: Step of the dual iteration, at most 0.25.
        scale: Size of a pyramid level relative to the finer one, 0.3..0.95.
        scales: Largest number of levels; no level is smaller than 16 pixels, so small frames have fewer.
        warps: Largest number of linearisations per level.
        iterations: Primal-dual iterations per warp.
        median: Side of the median filter after each warp: 3, 5, or 0 for none.
        smoothing: Sigma of the Gaussian that both frames are smoothed with, pixels.
        epsilon: A level ends when a warp changes the flow by less than this: root mean square, in pixels.

    Returns:
        (B, 2, H, W) float32 on the frames' device: u to the right, v downward, in pixels.
        A pair's flow is bit-identical in any batch and with any number of threads.

    Raises:
        UsageError: The frames don't match, or a parameter is out of its range.
    """
    check_frames("tvl1", first, second)
    parameters = Parameters(lambda_, theta, tau, scale, scales, warps, iterations, median, smoothing, epsilon)
    height, width = first.shape[1:]
    levels = pyramid(height, width, scale, scales, smoothing)
    if not len(first):
        return first.new_empty(0, 2, height, width, dtype=torch.float32)
    first, second = (frames.detach().float().contiguous() for frames in (first, second))
    solve = {"c": _tvl1_c.solve, "triton": _tvl1_triton.solve, "torch": _tvl1_torch.solve}[kernel_name(first.device)]
    return solve(first, second, levels, parameters)
