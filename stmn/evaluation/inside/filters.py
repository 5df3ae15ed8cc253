"""How training changed the temporal filters, which begin as the identity between channels (equation (9))."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stmn.nets.network import Network
from stmn.nets.temporal import TemporalFilter


@dataclass(frozen=True)
class FilterChange:
    """A temporal filter compared with its start. Shares are of the sum of squared weights, 0..1.

    Attributes:
        stream: `appearance` or `motion`.
        place: `conv2 unit 2`, or `conv2 skip path`.
        channels: C; the filter has C x C kernels; the C on the diagonal map each channel to itself.
        began: the taps of each kernel on the diagonal before training; all other kernels were 0.
        taps: mean over the diagonal, for each tap.
        spread: standard deviation over the diagonal, for each tap.
        off_centre: share of the weights at taps other than the middle one.
        off_centre_began: the same before training.
        off_diagonal: share of the weights that map one channel to another; 0 before training.
        moved: norm of the change over the norm of the start.
    """

    stream: str
    place: str
    channels: int
    began: list[float]
    taps: list[float]
    spread: list[float]
    off_centre: float
    off_centre_began: float
    off_diagonal: float
    moved: float


def describe_filters(network: Network) -> list[FilterChange]:
    """Compare each temporal filter with its start. Filters of other packages, whose start is unknown, are left out."""
    found = []
    for name in network.names:
        backbone = network.stream(name).backbone
        skip = dict(backbone.skip_temporal.items())
        for part, units in backbone.parts.items():
            places: dict[str, nn.Module | None] = {f"{part} unit {i + 1}": u.temporal for i, u in enumerate(units)}
            places[f"{part} skip path"] = skip.get(part)
            for place, module in places.items():
                if type(module) is TemporalFilter:
                    length = module.conv.kernel_size[0]
                    began = TemporalFilter(module.conv.in_channels, length, network.config.temporal.init)
                    found.append(_compare(name, place, module.conv.weight, began.conv.weight))
    return found


def _compare(stream: str, place: str, weight: Tensor, start: Tensor) -> FilterChange:
    """Compare (C, C, taps, 1) weights with those before training."""
    now, before = (w.detach().double().cpu()[..., 0] for w in (weight, start))
    channels, taps = now.shape[0], now.shape[-1]
    diagonal = now[torch.arange(channels), torch.arange(channels)]  # (C, taps)
    return FilterChange(
        stream=stream,
        place=place,
        channels=channels,
        began=before[0, 0].tolist(),
        taps=diagonal.mean(dim=0).tolist(),
        spread=diagonal.std(dim=0, correction=0).tolist(),
        off_centre=_share(now, now[..., taps // 2]),
        off_centre_began=_share(before, before[..., taps // 2]),
        off_diagonal=_share(now, diagonal),
        moved=float((now - before).norm() / before.norm()),
    )


def _share(weights: Tensor, kept: Tensor) -> float:
    """Return the share of the squared weights that are not in `kept`; 0 for a filter of zeros."""
    total = float(weights.square().sum())
    return max(0.0, 1 - float(kept.square().sum()) / total) if total else 0.0
