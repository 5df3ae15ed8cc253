"""Fusion functions: how a gate combines the two streams.

A fusion is a module, built with the number of channels and called with `(receiving, sending)`, both (N, C, H, W). It
returns what the residual branch of the receiving stream reads, of the same shape. In the equations the receiving
stream is appearance, x_a, and the sending stream is motion, f(x_m).
"""

from torch import Tensor, nn


class Add(nn.Module):
    """Additive interaction: the argument of F in eq. (2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Return x_a + f(x_m)."""
        return receiving + sending


class Multiply(nn.Module):
    """Multiplicative gating: the argument of F in eq. (5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Return x_a * f(x_m), element by element: each operand scales the other's gradient (eqs. 6 and 7)."""
        return receiving * sending
