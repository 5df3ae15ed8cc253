"""Check the frames that a flow estimator is given."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from stmn.errors import UsageError

_Function = TypeVar("_Function", bound=Callable[..., Any])


def cpu_only(estimator: _Function) -> _Function:
    """Mark an estimator that always computes on the CPU, wherever its frames are, so that no GPU is reserved for it."""
    estimator.__dict__["cpu_only"] = True
    return estimator


def check_frames(name: str, first: Tensor, second: Tensor) -> None:
    """Check a batch of pairs of grey frames.

    Args:
        name: The estimator, for messages.
        first: (B, H, W).
        second: (B, H, W).

    Raises:
        UsageError: They differ in shape or device, are empty, or are neither uint8 nor floating point.
    """
    if first.ndim != 3 or first.shape != second.shape or not first.shape[1:].numel():
        raise UsageError(
            f"{name}: needs two batches of grey frames (B, H, W) of one shape, not "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    if first.device != second.device:
        raise UsageError(f"{name}: the frames are on different devices, {first.device} and {second.device}")
    for frames in (first, second):
        if frames.dtype != torch.uint8 and not frames.is_floating_point():
            raise UsageError(f"{name}: grey values must be uint8 or floating point in 0..255, not {frames.dtype}")
