"""Forward passes of a bounded size: a video too large for one is split in time, and its scores stay what they were."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stmn.nets.network import Network
from stmn.nets.temporal import TemporalFilter
from stmn.nets.units import BasicUnit, BottleneckUnit

#: pixels of all chunks of the largest pass: 48 chunks of 256x341
LARGEST_PASS = 2**22


@dataclass(frozen=True)
class Piece:
    """Chunks `first` ... `last` - 1 of a video go through the network, and the maps of `kept` of them (counted from
    `first`) are right; the others lie too near a cut, beyond which temporal filters would see zeros."""

    first: int
    last: int
    kept: slice


def reach(network: Network) -> int | None:
    """How many chunks before and after its own a last map depends on; None where a plugin's modules may do anything.

    A stream's filters add up, and gates lead from one stream to the other: at each place the longer filter counts.
    """
    lengths: dict[str, int] = {}
    for name in network.names:
        backbone = network.stream(name).backbone
        filters: dict[str, nn.Module | None] = dict(backbone.stage_temporal.items())
        for stage, units in enumerate(backbone.stages):
            if any(type(unit) not in (BasicUnit, BottleneckUnit) for unit in units):
                return None
            filters |= {f"{stage}.{number}": unit.temporal for number, unit in enumerate(units)}
        for place, module in filters.items():
            if module is None:
                continue
            if type(module) is not TemporalFilter:
                return None
            lengths[place] = max(lengths.get(place, 0), module.conv.kernel_size[0] // 2)
    return sum(lengths.values())


def pieces(chunks: int, most: int, margin: int | None) -> Iterator[Piece]:
    """Cut `chunks` chunks into passes of about `most`, where each map depends on `margin` chunks on either side.

    A pass has at least one chunk whose map is kept, and its margins. Without a margin nothing is cut.
    """
    if margin is None or chunks <= most:
        yield Piece(0, chunks, slice(0, chunks))
        return
    step = max(1, most - 2 * margin)
    for start in range(0, chunks, step):
        stop = min(start + step, chunks)
        first, last = max(start - margin, 0), min(stop + margin, chunks)
        yield Piece(first, last, slice(start - first, stop - first))


def last_maps(network: Network, inputs: Callable[[int, int], Sequence[Tensor]], chunks: int, most: int) -> list[Tensor]:
    """Each stream's last maps of all chunks, (B * chunks, C, h, w), in passes of about `most` chunks.

    `inputs(first, last)` gives each stream's tensor of these chunks, (B, last - first, planes, H, W). Only one pass's
    inputs and inner maps are in memory; the last maps are a hundredth of them.
    """
    parts = []
    for piece in pieces(chunks, most, reach(network)):
        maps = network.maps(*inputs(piece.first, piece.last))
        parts.append([m.unflatten(0, (-1, piece.last - piece.first))[:, piece.kept] for m in maps])
    return [torch.cat(column, dim=1).flatten(0, 1) for column in zip(*parts, strict=True)]
