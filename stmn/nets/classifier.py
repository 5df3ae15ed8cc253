"""A classifier that always computes in float32: in bfloat16, logits that differ by less than 1 in 256 would tie."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Float32Linear(nn.Linear):
    """A linear layer that autocast leaves in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        with _without_autocast(x):
            return F.linear(at_least_float32(x), self.weight, self.bias)


def at_least_float32(x: Tensor) -> Tensor:
    """Return a half-precision tensor in float32, and any other unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast on a tensor's device; the meta device has no autocast."""
    kind = x.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):  # (is_autocast_available breaks PyTorch 2.11's graphs)
        return nullcontext()
    return torch.autocast(kind, enabled=False)
