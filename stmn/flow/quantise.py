"""Flow in 8 bits, as the paper stores it (section 4.1): clipped to +-bound pixels (20 there), zero at level 128."""

import torch
from torch import Tensor

#: the level of zero flow: 127.5 rounded half to even, as in the authors' extraction
ZERO_LEVEL = 128
#: the bounds to choose from, pixels
_BOUNDS = (1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320)
#: the fraction of flow components that a bound should cover
COVERED = 0.999


def next_bound(pixels: float, larger: bool = False) -> float | None:
    """Return the smallest usual bound of at least `pixels`, or above it if `larger`; None if there is none."""
    return next((float(bound) for bound in _BOUNDS if bound > pixels or (bound == pixels and not larger)), None)


def quantise(flow: Tensor, bound: float) -> Tensor:
    """Turn flow into levels 0..255: round(255 (f + bound) / (2 bound)).

    Args:
        flow: Any shape, floating point, pixels.
        bound: Flow is clipped to +- this many pixels.

    Returns:
        The same shape, uint8.
    """
    return torch.round((flow.clamp(-bound, bound) + bound) * (255 / (2 * bound))).to(torch.uint8)


def dequantise(levels: Tensor, bound: float) -> Tensor:
    """Turn levels into flow in pixels (float32, the same shape). `ZERO_LEVEL` becomes exactly 0."""
    return (levels.float() - ZERO_LEVEL) * (2 * bound / 255)


def subtract_camera(flow: Tensor) -> Tensor:
    """Subtract each field's median motion: (B, 2, H, W) pixels to the same shape.

    The median over the frame is the camera's translation if most of the frame is background.
    """
    return flow - flow.flatten(2).median(dim=2).values[:, :, None, None]


def noise_bound(bound: float) -> float:
    """Return the speed in pixels below which stored flow may be noise: two levels, one from rounding, one from JPEG."""
    return 2.5 * (2 * bound / 255)


def dequantise_for_display(levels: Tensor, bound: float) -> Tensor:
    """Turn levels (..., 2, H, W) into flow in pixels, and to zero where |u| and |v| are below `noise_bound`."""
    flow = dequantise(levels, bound)
    return flow * (flow.abs().amax(dim=-3, keepdim=True) > noise_bound(bound))
