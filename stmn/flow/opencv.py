"""OpenCV's DIS and Farneback flow with the contract of flow plugins. They run on the CPU, on 8-bit frames."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from stmn.errors import MissingExtra, UsageError
from stmn.flow._frames import check_frames, cpu_only

#: ranges of the parameters of Farneback's flow; beyond them, OpenCV may take unlimited time and memory
_RANGES = {
    "scale": (0.1, 0.95), "scales": (1, 32), "window": (1, 255), "iterations": (1, 1000), "neighbourhood": (3, 31),
    "sigma": (0.1, 10),
}  # fmt: skip


@cpu_only
def dis(first: Tensor, second: Tensor, *, preset: str = "medium") -> Tensor:
    """Estimate flow by dense inverse search (Kroeger et al., ECCV 2016): the fastest, but without the finest detail.

    Args:
        first: (B, H, W) grey frames, uint8 or floating point, in 0..255 either way; rounded to 8 bits.
        second: (B, H, W), as `first`.
        preset: "ultrafast", "fast" or "medium".

    Returns:
        (B, 2, H, W) float32 on the frames' device: u to the right, v downward, in pixels, from first to second.

    Raises:
        UsageError: The frames don't match, OpenCV refuses them, or there is no such preset.
        MissingExtra: OpenCV is not installed.
    """
    check_frames("dis", first, second)
    if preset not in ("ultrafast", "fast", "medium"):
        raise UsageError(f"dis: preset is '{preset}'; it must be ultrafast, fast or medium")
    cv2 = _opencv("dis")
    estimator = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))
    return _each_pair(cv2, estimator.calc, first, second)


@cpu_only
def farneback(
    first: Tensor,
    second: Tensor,
    *,
    scale: float = 0.5,
    scales: int = 4,
    window: int = 15,
    iterations: int = 3,
    neighbourhood: int = 5,
    sigma: float = 1.2,
) -> Tensor:
    """Estimate flow by polynomial expansion (Farneback, SCIA 2003): smooth, but without sharp motion boundaries.

    Args:
        first: (B, H, W) grey frames, uint8 or floating point, in 0..255 either way; rounded to 8 bits.
        second: (B, H, W), as `first`.
        scale: Size of a pyramid level relative to the finer one, 0.1..0.95.
        scales: Levels of the pyramid, 1..32.
        window: Side of the averaging window, pixels, 1..255.
        iterations: Iterations per level, 1..1000.
        neighbourhood: Side of the neighbourhood that each polynomial is fitted to, pixels, 3..31.
        sigma: Sigma of the Gaussian that weights this fit, pixels, 0.1..10.

    Returns:
        (B, 2, H, W) float32 on the frames' device: u to the right, v downward, in pixels, from first to second.

    Raises:
        UsageError: The frames don't match, a parameter is out of its range, or OpenCV refuses them.
        MissingExtra: OpenCV is not installed.
    """
    check_frames("farneback", first, second)
    given = (("scale", scale), ("scales", scales), ("window", window), ("iterations", iterations),
             ("neighbourhood", neighbourhood), ("sigma", sigma))  # fmt: skip
    for name, value in given:
        low, high = _RANGES[name]
        if not low <= value <= high:
            raise UsageError(f"farneback: {name} is {value!r}; it must be in {low}..{high}")
    cv2 = _opencv("farneback")

    def estimate(one: np.ndarray, two: np.ndarray, _: None) -> np.ndarray:
        flow: np.ndarray = cv2.calcOpticalFlowFarneback(
            one, two, None, scale, scales, window, iterations, neighbourhood, sigma, 0
        )
        return flow

    return _each_pair(cv2, estimate, first, second)


def _each_pair(cv2: ModuleType, estimate: Callable[..., np.ndarray], first: Tensor, second: Tensor) -> Tensor:
    """Estimate the flow of each pair from 8-bit frames."""
    flow = torch.empty(len(first), 2, *first.shape[1:])
    before = cv2.getNumThreads()
    cv2.setNumThreads(torch.get_num_threads())  # the same for all estimators: `prepare` runs many processes
    try:
        for k, (one, two) in enumerate(zip(_grey8(first), _grey8(second), strict=True)):
            flow[k] = torch.from_numpy(estimate(one, two, None)).permute(2, 0, 1)
    except cv2.error as error:
        size = f"{first.shape[2]}x{first.shape[1]}"
        raise UsageError(f"OpenCV refuses frames of {size} pixels: {' '.join(str(error).split())}") from error
    finally:
        cv2.setNumThreads(before)
    return flow.to(first.device)


def _grey8(frames: Tensor) -> np.ndarray:
    """Round frames (B, H, W) to 8 bits."""
    if frames.is_floating_point():
        frames = frames.detach().round().clamp(0, 255).to(torch.uint8)
    return frames.cpu().contiguous().numpy()


def _opencv(name: str) -> ModuleType:
    """Import the module cv2, for the estimator `name`."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra(f"--flow {name}", "opencv-contrib-python-headless", "opencv") from error
    return cv2
