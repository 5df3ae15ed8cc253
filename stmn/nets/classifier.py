"""The classifier computes in float32 in every precision: in bfloat16 two logits that differ by less than 1/256 tie."""

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
    """A tensor of half precision in float32; any other one as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast on a tensor's device, which may be one that has none, such as meta."""
    kind = x.device.type
    has_it = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if has_it else nullcontext()
