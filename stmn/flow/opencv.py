"""OpenCV's DIS and Farneback flow under the contract of this room; on the CPU, 8-bit."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from stmn.errors import MissingExtra, UsageError
from stmn.flow._frames import check_frames


def dis(first: Tensor, second: Tensor, *, preset: str = "medium") -> Tensor:
    """Dense inverse search (Kroeger et al. 2016): the fastest, for when the flow's finest detail does not matter.

    Args:
        first: (B, H, W) grey frames, uint8 or floating point, 0..255 in either case (rounded to 8 bits).
        second: (B, H, W), as `first`.
        preset: `ultrafast`, `fast` or `medium`.

    Returns:
        (B, 2, H, W) float32 on the frames' device: u to the right, v downward, in pixels, from first to second.

    Raises:
        UsageError: frames or a preset that do not fit.
        MissingExtra: OpenCV is not installed.
    """
    check_frames("dis", first, second)
    if preset not in ("ultrafast", "fast", "medium"):
        raise UsageError(f"dis: preset is '{preset}'; it must be ultrafast, fast or medium")
    cv2 = _opencv("dis")
    estimator = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))
    return _each_pair(cv2, estimator.calc, first, second)


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
    """Polynomial expansion (Farneback 2003): smooth flow without sharp motion boundaries.

    Args:
        first: (B, H, W) grey frames, uint8 or floating point, 0..255 in either case (rounded to 8 bits).
        second: (B, H, W), as `first`.
        scale: size of a pyramid level relative to the finer one.
        scales: levels of the pyramid.
        window: side (pixels) of the averaging window.
        iterations: iterations a level.
        neighbourhood: side (pixels) of what each polynomial is fitted to.
        sigma: of the Gaussian that weighs that fit, pixels.

    Returns:
        (B, 2, H, W) float32 on the frames' device: u to the right, v downward, in pixels, from first to second.

    Raises:
        UsageError: frames that do not fit.
        MissingExtra: OpenCV is not installed.
    """
    check_frames("farneback", first, second)
    cv2 = _opencv("farneback")

    def estimate(one: np.ndarray, two: np.ndarray, _: None) -> np.ndarray:
        return cv2.calcOpticalFlowFarneback(one, two, None, scale, scales, window, iterations, neighbourhood, sigma, 0)

    return _each_pair(cv2, estimate, first, second)


def _each_pair(cv2: ModuleType, estimate: Callable[..., np.ndarray], first: Tensor, second: Tensor) -> Tensor:
    flow = torch.empty(len(first), 2, *first.shape[1:])
    before = cv2.getNumThreads()
    cv2.setNumThreads(torch.get_num_threads())  # one knob for all estimators; `prepare` runs many processes
    try:
        for k, (one, two) in enumerate(zip(_grey8(first), _grey8(second), strict=True)):
            flow[k] = torch.from_numpy(estimate(one, two, None)).permute(2, 0, 1)
    except cv2.error as error:
        raise UsageError(f"OpenCV refuses frames of {first.shape[2]}x{first.shape[1]} pixels: {error}") from error
    finally:
        cv2.setNumThreads(before)
    return flow.to(first.device)


def _grey8(frames: Tensor) -> np.ndarray:
    if frames.is_floating_point():
        frames = frames.detach().round().clamp(0, 255).to(torch.uint8)
    return frames.cpu().contiguous().numpy()


def _opencv(name: str) -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra(f"--flow {name}", "opencv-contrib-python-headless", "opencv") from error
    return cv2
