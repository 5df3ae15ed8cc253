"""A fusion plugin for stmn: multiplicative gating with a learned scale per channel.

Install it, then use it by the name of its entry point:

    pip install ./plugins/stmn-scaled-gate
    stmn fuse --fusion scaled_multiply
"""

import torch
from torch import Tensor, nn


class ScaledMultiply(nn.Module):
    """x_a * (1 + s f(x_m)) with a learned scale s per channel; a `stmn.plugins.Fusion`.

    s starts at 0.1, so that training begins near the network without gates.

    Args:
        channels: C, channels of the feature maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.1))

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Combine the two streams' maps, (N, C, H, W) each, into the input of the receiving residual branch."""
        return receiving * (1 + self.scale * sending)
