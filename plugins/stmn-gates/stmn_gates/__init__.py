"""Four fusions for stmn: ways in which one stream can gate the other.

In the equations the receiving stream is appearance, x_a before its ReLU f, and the sending one is motion, f(x_m). Three
of the four start as the untied pair, to the bit: a fused network begins where its streams were.
"""

import torch
from torch import Tensor, nn

__all__ = ["AffineGate", "BilinearGate", "ScaledMultiply", "SigmoidGate"]


class SigmoidGate(nn.Module):
    """2 f(x_a) sigmoid(s f(x_m) + b): a gate between 0 and 2, with s and b learned per channel.

    Unlike multiplication it is bounded, so a large motion signal can't blow up the receiving stream. s and b start at
    0, where the gate is 1.

    Args:
        channels: C, channels of the maps.
    """

    starts_untied = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.offset = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Combine maps of (N, C, H, W) each."""
        return torch.relu(receiving) * (2 * torch.sigmoid(self.scale * sending + self.offset))


class AffineGate(nn.Module):
    """(1 + g(x_m)) f(x_a) + h(x_m) with 1x1 convolutions g and h: feature-wise affine modulation (Perez et al. 2018).

    g and h start at 0. Channels of motion are mixed, where multiplication pairs channel with channel.

    Args:
        channels: C, channels of the maps.
        pooled: compute g and h from the mean of motion over the frame, as in the paper, and not at each place.
    """

    starts_untied = True

    def __init__(self, channels: int, *, pooled: bool = False) -> None:
        super().__init__()
        self.pooled = pooled
        self.modulate = nn.Conv2d(channels, 2 * channels, 1)
        for parameter in self.modulate.parameters():
            nn.init.zeros_(parameter)

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Combine maps of (N, C, H, W) each."""
        sending = sending.mean(dim=(2, 3), keepdim=True) if self.pooled else sending
        scale, offset = self.modulate(sending).chunk(2, dim=1)
        return (1 + scale) * torch.relu(receiving) + offset


class BilinearGate(nn.Module):
    """f(x_a) + P (U f(x_a) * V f(x_m)): low-rank bilinear pooling (Kim et al. 2017), added to what was there.

    Every channel of the one stream can meet every channel of the other, at the cost of three 1x1 convolutions. P starts
    at 0.

    Args:
        channels: C, channels of the maps.
        rank: channels of U and V.

    Raises:
        ValueError: `rank` is below 1.
    """

    starts_untied = True

    def __init__(self, channels: int, *, rank: int = 32) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank = {rank}: must be 1 or more")
        self.own = nn.Conv2d(channels, rank, 1, bias=False)
        self.other = nn.Conv2d(channels, rank, 1, bias=False)
        self.project = nn.Conv2d(rank, channels, 1)
        for parameter in self.project.parameters():
            nn.init.zeros_(parameter)

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Combine maps of (N, C, H, W) each."""
        plain = torch.relu(receiving)
        return plain + self.project(self.own(plain) * self.other(sending))


class ScaledMultiply(nn.Module):
    """x_a (1 + s f(x_m)), with a scale s per channel that is learned: multiplication as a residual.

    Args:
        channels: C, channels of the maps.
        start: s at the start. It is small, so that training begins near the network without gates.
    """

    def __init__(self, channels: int, *, start: float = 0.1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), start))

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Combine maps of (N, C, H, W) each."""
        return receiving * (1 + self.scale * sending)
