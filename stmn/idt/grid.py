"""HOG, HOF and MBH histograms of a stored video on a fixed grid.

These are three descriptors of improved dense trajectories (section 5.4), but collected over 4 x 4 cells of the whole
frame and 3 spans of time instead of along trajectories.
"""

from math import pi

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stmn.flow.grey import to_grey
from stmn.flow.quantise import dequantise
from stmn.store.format.read import Store, StoredVideo

_BINS = 8
_CELLS = 4
_SPANS = 3
#: flow of at most this many pixels counts as no motion, which is HOF's extra bin
_STILL = 0.4


def describe_video(store: Store, video: StoredVideo, max_fields: int = 8) -> NDArray[np.float32]:
    """Describe a video by HOG (8 bins), HOF (9), MBHx (8) and MBHy (8) over 4 x 4 cells and 3 spans.

    Args:
        store: The prepared data set.
        video: One of its videos. A video of one frame counts as having no motion.
        max_fields: The most flow fields to read, spread evenly over the video.

    Returns:
        (3 * 33 * 16,) vector; each descriptor has L1 norm 1 before its square root is taken.

    Raises:
        DataError: The store is damaged.
    """
    fields = max(video.frames - 1, 1)
    times = sorted({round(t) for t in np.linspace(0, fields - 1, min(max_fields, fields))})
    frames = store.frames(video.id, times)
    luma = to_grey(frames.permute(0, 2, 3, 1))
    flow = torch.zeros(len(times), 2, *luma.shape[1:])
    if video.frames > 1:
        flow = dequantise(store.fields(video.id, times), store.header.preparation.bound)
    descriptors = [
        bin_orientations(*_gradients(luma)),
        torch.cat([bin_orientations(flow[:, 0], flow[:, 1], _STILL), _find_still(flow)], dim=1),
        bin_orientations(*_gradients(flow[:, 0])),
        bin_orientations(*_gradients(flow[:, 1])),
    ]
    return np.concatenate([_pool(bins).numpy() for bins in descriptors])


def bin_orientations(x: Tensor, y: Tensor, threshold: float = 0.0) -> Tensor:
    """Share the magnitude of each vector between the two nearest of 8 directions.

    Args:
        x: (N, H, W) components to the right.
        y: (N, H, W) components downwards.
        threshold: Vectors up to this magnitude count as zero.

    Returns:
        (N, 8, H, W).
    """
    magnitude = torch.hypot(x, y)
    magnitude = torch.where(magnitude > threshold, magnitude, 0.0)
    position = (torch.atan2(y, x) / (2 * pi) * _BINS) % _BINS
    low = position.floor().long() % _BINS
    share = position - position.floor()
    bins = torch.zeros(len(x), _BINS, *x.shape[1:])
    bins.scatter_add_(1, low[:, None], (magnitude * (1 - share))[:, None])
    return bins.scatter_add_(1, ((low + 1) % _BINS)[:, None], (magnitude * share)[:, None])


def _gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of (N, H, W) along x and y."""
    padded = F.pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    return (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2, (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2


def _find_still(flow: Tensor) -> Tensor:
    """(N, 2, H, W) flow to (N, 1, H, W): 1 where nothing moves."""
    return (torch.hypot(flow[:, 0], flow[:, 1]) <= _STILL).float()[:, None]


def _pool(bins: Tensor) -> Tensor:
    """Pool (N, bins, H, W) into one vector over cells and spans: L1 norm, then square root (as RootSIFT)."""
    cells = F.adaptive_avg_pool2d(bins, _CELLS).flatten(1)
    spans = torch.stack([span.mean(dim=0) for span in cells.tensor_split(_SPANS) if len(span)])
    spans = F.pad(spans, (0, 0, 0, _SPANS - len(spans)))
    return (spans / spans.sum().clamp(min=1e-8)).sqrt().flatten()
