"""Temporal filters and temporal pooling (section 3.3)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stmn.errors import UsageError

TemporalInit = Literal["centre", "average"]
TemporalPool = Literal["max", "average", "none"]


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


def pool_time(x: Tensor, chunks: int, how: TemporalPool, window: int | None = None) -> Tensor:
    """Pool `(B * chunks, C, H, W)` over time to `(B, P, C, H, W)`; P is the number of places in time that remain.

    P is 1 over all chunks (eq. 10 with `max`), chunks - window + 1 over a sliding `window` at stride 1 (at least 1: a
    video shorter than the window is one), and the number of chunks with `none`.
    """
    video = x.unflatten(0, (-1, chunks))
    if how == "none":
        return video
    if window is not None:
        return slide(video, how, window)
    return over_all(video, how)


def over_all(video: Tensor, how: TemporalPool) -> Tensor:
    """Pool `(B, T, C, H, W)` over all chunks to `(B, 1, C, H, W)`."""
    # not amax: of equal chunks one alone gets the gradient, "a single temporal gradient map" (section 5.2)
    return video.max(dim=1, keepdim=True).values if how == "max" else video.mean(dim=1, keepdim=True)


def slide(video: Tensor, how: TemporalPool, window: int) -> Tensor:
    """Pool `(B, T, C, H, W)` over `window` chunks at stride 1 to `(B, max(T - window, 0) + 1, C, H, W)`.

    It never asks how T compares with the window, so a traced or exported network takes videos of any length.
    """
    pool = F.max_pool3d if how == "max" else F.avg_pool3d
    padded = F.pad(video.transpose(1, 2), (0, 0, 0, 0, window - 1, 0))  # (B, C, window - 1 + T, H, W)
    ending = pool(padded, (window, 1, 1), stride=1).transpose(1, 2)  # place t: the window whose last chunk is t
    # those that hold no padding, but for the last, which of a video shorter than the window is all there is
    return torch.cat([ending[:, window - 1 : -1], over_all(video[:, -window:], how)], dim=1)
