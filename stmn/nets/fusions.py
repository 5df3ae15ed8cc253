"""Fusion functions: what combines the streams at a gate.

A fusion is built with the number of channels and called with `(receiving, sending)`, both (N, C, H, W); it returns what
the receiving stream's residual branch reads, of the same shape.
"""

from torch import Tensor, nn


class Add(nn.Module):
    """Additive interaction, eq. (2): x_a + f(x_m)."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """The sum."""
        return receiving + sending


class Multiply(nn.Module):
    """Multiplicative gating, eq. (5): x_a (.) f(x_m)."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """The element-wise product; each operand scales the other's gradient (eqs. 6, 7)."""
        return receiving * sending
