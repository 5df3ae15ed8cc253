"""8-bit flow, as the paper stores it: clip to +-bound pixels, 0 at level 128 (section 4.1: bound 20)."""

import torch
from torch import Tensor

#: the level of zero flow: round half to even of 127.5, as in the authors' extraction
ZERO_LEVEL = 128


def quantise(flow: Tensor, bound: float) -> Tensor:
    """Flow in pixels (any shape, float) to levels 0..255 (uint8): round(255 (f + bound) / (2 bound))."""
    return torch.round((flow.clamp(-bound, bound) + bound) * (255 / (2 * bound))).to(torch.uint8)


def dequantise(levels: Tensor, bound: float) -> Tensor:
    """Levels to pixels (float32); zero flow comes back as exactly 0."""
    return (levels.float() - ZERO_LEVEL) * (2 * bound / 255)


def subtract_camera(flow: Tensor) -> Tensor:
    """Take each field's median motion away: (B, 2, H, W) pixels to the same.

    The median over the frame is the camera's translation wherever most of the picture is background.
    """
    return flow - flow.flatten(2).median(dim=2).values[:, :, None, None]
