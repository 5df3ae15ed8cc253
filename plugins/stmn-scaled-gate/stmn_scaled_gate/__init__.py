"""Multiplicative gating with a learned scale per channel: what a third party's plugin package looks like.

pip install ./plugins/stmn-scaled-gate
stmn fuse --fusion scaled_multiply
"""

import torch
from torch import Tensor, nn


class ScaledMultiply(nn.Module):
    """x_a (.) (1 + s f(x_m)), s per channel, starting at 0.1: near the ungated network when training begins."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.1))

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Both (N, C, H, W); what the receiving stream's residual branch reads."""
        return receiving * (1 + self.scale * sending)
