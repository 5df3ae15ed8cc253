"""HOG, HOF and MBH histograms of a stored video on a fixed grid.

The same three descriptors as improved dense trajectories (section 5.4), collected over 4 x 4 cells and 3 spans of time
of the whole picture, without tracking.
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

BINS = 8
CELLS = 4
SPANS = 3
#: flow shorter than this many pixels counts as no motion (HOF's extra bin)
STILL = 0.4


def describe_video(store: Store, video: StoredVideo, most_fields: int = 8) -> NDArray[np.float32]:
    """One vector: HOG (8 bins), HOF (9), MBHx (8), MBHy (8) over cells and spans, each L1-normalised and square-rooted.

    At most `most_fields` flow fields, spread evenly, are read. A video of one frame is one that stands still.
    """
    fields = max(video.frames - 1, 1)
    times = sorted({round(t) for t in np.linspace(0, fields - 1, min(most_fields, fields))})
    frames = store.frames(video.id, times)
    luma = to_grey(frames.permute(0, 2, 3, 1))
    flow = torch.zeros(len(times), 2, *luma.shape[1:])
    if video.frames > 1:
        flow = dequantise(store.fields(video.id, times), store.header.preparation.bound)
    parts = [
        oriented(*gradients(luma)),
        torch.cat([oriented(flow[:, 0], flow[:, 1], STILL), still(flow)], dim=1),
        oriented(*gradients(flow[:, 0])),
        oriented(*gradients(flow[:, 1])),
    ]
    return np.concatenate([pooled(part).numpy() for part in parts])


def gradients(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of (N, H, W) along x and y."""
    padded = F.pad(planes[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    return (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2, (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2


def oriented(x: Tensor, y: Tensor, least: float = 0.0) -> Tensor:
    """(N, H, W) vectors to (N, 8, H, W): magnitude shared between the two nearest of 8 directions."""
    magnitude = torch.hypot(x, y)
    magnitude = torch.where(magnitude > least, magnitude, 0.0)
    place = (torch.atan2(y, x) / (2 * pi) * BINS) % BINS
    low = place.floor().long() % BINS
    share = place - place.floor()
    bins = torch.zeros(len(x), BINS, *x.shape[1:])
    bins.scatter_add_(1, low[:, None], (magnitude * (1 - share))[:, None])
    return bins.scatter_add_(1, ((low + 1) % BINS)[:, None], (magnitude * share)[:, None])


def still(flow: Tensor) -> Tensor:
    """(N, 2, H, W) flow to (N, 1, H, W): 1 where nothing moves."""
    return (torch.hypot(flow[:, 0], flow[:, 1]) <= STILL).float()[:, None]


def pooled(bins: Tensor) -> Tensor:
    """(N, bins, H, W) to one vector over cells and spans: L1 norm, then square root (RootSIFT's normalisation)."""
    cells = F.adaptive_avg_pool2d(bins, CELLS).flatten(1)
    spans = torch.stack([span.mean(dim=0) for span in cells.tensor_split(SPANS) if len(span)])
    spans = F.pad(spans, (0, 0, 0, SPANS - len(spans)))
    return (spans / spans.sum().clamp(min=1e-8)).sqrt().flatten()
