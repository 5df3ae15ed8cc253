"""Temporal filters and temporal pooling (section 3.3)."""

from typing import Literal

import torch
from torch import Tensor, nn

from stmn.errors import UsageError

TemporalInit = Literal["centre", "average"]
TemporalPool = Literal["max", "average"]


class TemporalFilter(nn.Module):
    """A 1D convolution over chunks that mixes channels and starts as the channel identity (eqs. 8, 9).

    `(B * chunks, C, H, W) -> (B * chunks, C, H, W)`; beyond the first and last chunk lie zeros. With `centre` the
    output equals the input to the bit until training changes it.
    """

    def __init__(self, channels: int, length: int = 3, init: TemporalInit = "centre") -> None:
        super().__init__()
        if length % 2 == 0 or length < 1:
            raise UsageError(f"a temporal filter's length is odd, not {length}")
        taps = torch.full((length,), 1 / length) if init == "average" else torch.zeros(length)
        if init == "centre":
            taps[length // 2] = 1.0
        # (T, H * W) is the convolution's plane, so the paper's 1 x 1 x T kernel is T x 1 here
        self.conv = nn.Conv2d(channels, channels, (length, 1), padding=(length // 2, 0))
        with torch.no_grad():
            # eq. (9): W = 1 (x) f, the identity between channels times the temporal taps; b = 0
            self.conv.weight.copy_((torch.eye(channels)[:, :, None] * taps)[..., None])
            self.conv.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor, chunks: int) -> Tensor:
        """Eq. (8): x * W + b along time."""
        video = x.flatten(2).unflatten(0, (-1, chunks)).transpose(1, 2)  # (B, C, T, H * W)
        return self.conv(video).transpose(1, 2).reshape(x.shape)


def pool_time(x: Tensor, chunks: int, how: TemporalPool) -> Tensor:
    """Pool `(B * chunks, C, H, W)` over time to `(B, C, H, W)`: max is eq. (10)."""
    video = x.unflatten(0, (-1, chunks))
    return video.amax(dim=1) if how == "max" else video.mean(dim=1)
