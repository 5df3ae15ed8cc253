"""The border of every flow estimator: what a pair of grey frames may look like."""

import torch
from torch import Tensor

from stmn.errors import UsageError


def check_frames(name: str, first: Tensor, second: Tensor) -> None:
    """Raises `UsageError` unless both are (B, H, W), alike, on one device, uint8 or floating point."""
    if first.ndim != 3 or first.shape != second.shape or not first.shape[1:].numel():
        raise UsageError(
            f"{name}: needs two grey batches (B, H, W) of one shape, got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if first.device != second.device:
        raise UsageError(f"{name}: the frames are on two devices, {first.device} and {second.device}")
    for frames in (first, second):
        if frames.dtype != torch.uint8 and not frames.is_floating_point():
            raise UsageError(f"{name}: grey values must be uint8 or floating point in 0..255, got {frames.dtype}")
