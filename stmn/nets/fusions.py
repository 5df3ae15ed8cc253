"""Fusion functions: how a gate combines the two streams.

A fusion is a module, built with the number of channels and called with `(receiving, sending)`, both (N, C, H, W). It
returns what the residual branch of the receiving stream reads, of the same shape. In the equations the receiving
stream is appearance, x_a, and the sending stream is motion, f(x_m).
"""

import torch
from torch import Tensor, nn


def no_gates(channels: int) -> None:
    """No gates: two streams side by side, with the filters, steps and losses of gated ones; a control, not the paper's.

    A network whose fusion is this function has no gates, so no channels of its streams need to be the same.
    """


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


class BlendedMultiply(nn.Module):
    """Multiplicative gating that is blended in by a learned scale s per channel; not the paper's.

    The residual branch reads f(x_a) + s (x_a * f(x_m) - f(x_a)), with the ReLU f: for s = 0 what it reads without a
    gate, eq. (1), and for s = 1 what eq. (5) says. So a network starts as the untied pair of its streams, to the bit,
    and how far s moves says how much it gates. f(x_m) is 0 or more and has no upper limit, so the gate suppresses where
    f(x_m) < 1 and amplifies where f(x_m) > 1, the more the larger s.

    Where the gate reads a filter of the skip path, which no ReLU follows, f is applied to the filter's output.

    Args:
        channels: C, channels of the maps.
        start: s at the start.

    Attributes:
        scale: s, (C,). It has no weight decay, which would pull it to the untied pair.
    """

    starts_untied = True

    def __init__(self, channels: int, *, start: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), start))

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Return f(x_a) + s (x_a * f(x_m) - f(x_a))."""
        plain = torch.relu(receiving)
        return plain + self.scale[:, None, None] * (receiving * sending - plain)
