"""Pairs of frames whose motion is known exactly."""

import numpy as np
import torch
from torch import Tensor

#: options of TV-L1 with which all its implementations are compared
TVL1_OPTIONS = [
    {},
    {"median": 5},
    {"median": 0},
    {"scale": 0.8, "warps": 2},
    {"scales": 1},
    {"smoothing": 0.0},
    {"epsilon": 0.0, "iterations": 45},
    {"epsilon": 0.3, "warps": 6},
]


def texture(height: int, width: int, dx: float = 0.0, dy: float = 0.0, seed: int = 0) -> Tensor:
    """A smooth random texture (H, W) moved by (dx, dy) pixels, exactly: a sum of waves."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    image = np.zeros((height, width))
    for _ in range(30):
        angle, length, phase = rng.uniform(0, 2 * np.pi), rng.uniform(7, 30), rng.uniform(0, 2 * np.pi)
        image += np.cos(2 * np.pi * (np.cos(angle) * (x - dx) + np.sin(angle) * (y - dy)) / length + phase)
    return torch.from_numpy(127 + 8 * image).clamp(0, 255).float()


def moved(height: int = 60, width: int = 72, dx: float = 1.3, dy: float = -0.6, seed: int = 0) -> tuple[Tensor, Tensor]:
    return texture(height, width, seed=seed)[None], texture(height, width, dx, dy, seed)[None]
