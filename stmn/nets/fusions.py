"""Fusion functions: how a gate combines the two streams.

A fusion is a module, built with the number of channels and called with `(receiving, sending)`, both (N, C, H, W). It
returns the input of the receiving stream's residual branch, of the same shape. In the equations the receiving stream
is appearance, x_a, and the sending stream is motion, f(x_m).
"""

import torch
from torch import Tensor, nn


def no_gates(channels: int) -> None:
    """No gates: two independent streams with the filters, steps and losses of tied ones; a control, not in the paper.

    A network with this fusion has no gates, so its streams may have different numbers of channels.
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
    """Multiplicative gating that is blended in by a learned scale s per channel; not in the paper.

    The residual branch reads f(x_a) + s (x_a * f(x_m) - f(x_a)), with the ReLU f. For s = 0 that is its input without a
    gate, eq. (1); for s = 1 it is that of eq. (5). So a network starts bit-identical to the untied pair of its streams,
    and s shows how much it gates. f(x_m) is at least 0 and has no upper limit, so the gate suppresses where f(x_m) < 1
    and amplifies where f(x_m) > 1, more so for larger s.

    If the gate reads the output of a skip-path filter, which no ReLU follows, f is applied to that output.

    Args:
        channels: C, channels of the maps.
        start: initial value of s.

    Attributes:
        scale: s, (C,). It has no weight decay, which would pull the network towards the untied pair.
    """

    starts_untied = True

    def __init__(self, channels: int, *, start: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), start))

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Return f(x_a) + s (x_a * f(x_m) - f(x_a))."""
        plain = torch.relu(receiving)
        return plain + self.scale[:, None, None] * (receiving * sending - plain)
