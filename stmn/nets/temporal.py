"""Temporal filters and pooling over time (section 3.3)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stmn.errors import UsageError
from stmn.nets.config import TemporalInit, TemporalPool


class TemporalFilter(nn.Module):
    """A 1D convolution over chunks that mixes channels and starts as the identity between channels (eqs. 8 and 9).

    Before the first and after the last chunk it sees zeros.

    Args:
        channels: channels of input and output, C.
        length: chunks that the filter spans; odd.
        init: the taps f of eq. (9). `centre` is [0, 1, 0] and leaves the input unchanged, to the bit; `average` is
            [1/3, 1/3, 1/3].

    Raises:
        UsageError: `length` is not a positive odd number.
    """

    def __init__(self, channels: int, length: int = 3, init: TemporalInit = "centre") -> None:
        super().__init__()
        if length % 2 == 0 or length < 1:
            raise UsageError(f"the length of a temporal filter must be a positive odd number, not {length}")
        taps = torch.full((length,), 1 / length) if init == "average" else torch.zeros(length)
        if init == "centre":
            taps[length // 2] = 1.0
        # the convolution runs over (T, H * W) maps: the paper's 1 x 1 x T kernel is T x 1 here
        self.conv = nn.Conv2d(channels, channels, (length, 1), padding=(length // 2, 0))
        assert self.conv.bias is not None
        with torch.no_grad():
            # eq. (9): W = 1 (x) f, the identity between channels times the taps; b = 0
            self.conv.weight.copy_((torch.eye(channels)[:, :, None] * taps)[..., None])
            self.conv.bias.zero_()

    def forward(self, x: Tensor, chunks: int) -> Tensor:
        """Eq. (8): x * W + b along time.

        Args:
            x: (B * chunks, C, H, W), the chunks of each video in order.
            chunks: chunks of each video, T.

        Returns:
            The same shape.
        """
        videos = torch.unflatten(x.flatten(2), 0, (-1, chunks)).transpose(1, 2)  # (B, C, T, H * W)
        filtered: Tensor = self.conv(videos)
        return filtered.transpose(1, 2).reshape(x.shape)


def pool_time(x: Tensor, chunks: int, how: TemporalPool, window: int | None = None) -> Tensor:
    """Pool features over time.

    Args:
        x: (B * chunks, C, H, W), the chunks of each video in order.
        chunks: chunks of each video, T.
        how: `max` is eq. (10); `none` keeps every chunk.
        window: pool over this many chunks at a time, at stride 1, instead of over all. A video with fewer chunks is
            one window.

    Returns:
        (B, P, C, H, W), where P is the number of places in time that remain: T with `none`, max(T - window, 0) + 1
        with a window, else 1.
    """
    videos = torch.unflatten(x, 0, (-1, chunks))
    if how == "none":
        return videos
    if window is not None:
        return _pool_windows(videos, how, window)
    return _pool_all(videos, how)


def _pool_all(videos: Tensor, how: TemporalPool) -> Tensor:
    """Pool (B, T, C, H, W) over all chunks to (B, 1, C, H, W)."""
    # not amax: of equal chunks only one gets the gradient, "a single temporal gradient map" (section 5.2)
    return videos.max(dim=1, keepdim=True).values if how == "max" else videos.mean(dim=1, keepdim=True)


def _pool_windows(videos: Tensor, how: TemporalPool, window: int) -> Tensor:
    """Pool (B, T, C, H, W) over `window` chunks at stride 1 to (B, max(T - window, 0) + 1, C, H, W).

    Nothing here depends on whether T exceeds the window, so exported networks take any number of chunks.
    """
    chunks = videos.shape[1]
    places = torch.sym_max(chunks - window, 0) + 1
    before = -torch.inf if how == "max" else 0.0
    padded = F.pad(videos.transpose(1, 2), (0, 0, 0, 0, window - 1, 0), value=before)  # (B, C, window - 1 + T, H, W)
    pool = F.max_pool3d if how == "max" else F.avg_pool3d
    ending = pool(padded, (window, 1, 1), stride=1).transpose(1, 2)  # place t: the window whose last chunk is t
    pooled = ending[:, chunks - places :]  # windows without padding; for a short video the last, which holds all of it
    # the mean of a short video counts only its own chunks
    counted: Any = torch.sym_min(chunks, window)
    return pooled if how == "max" else pooled * window / counted
