"""What a network consists of, unit by unit: what `stmn nets show` tells and draws."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from stmn.nets.network import Network
from stmn.nets.two_stream import TwoStream, gate_name
from stmn.nets.units import Unit


@dataclass(frozen=True)
class UnitOutline:
    """A residual unit. `layers` of its residual branch in order: `1x1`, `3x3`, or `T3` for a temporal filter.

    `gated`: the other stream enters here. `projected`: its skip path has a convolution.
    """

    layers: tuple[str, ...]
    gated: bool
    projected: bool


@dataclass(frozen=True)
class PartOutline:
    """conv2_x to conv5_x. `skip_filter`: the length of the temporal filter after its last ReLU, 0 for none."""

    name: str
    channels: int
    units: tuple[UnitOutline, ...]
    skip_filter: int


@dataclass(frozen=True)
class StreamOutline:
    """A stream: what it reads, its first convolution, parts and classifier."""

    name: str
    arch: str
    in_channels: int
    stem: str
    parts: tuple[PartOutline, ...]
    features: int
    dropout: float


def outline(network: Network) -> list[StreamOutline]:
    """Every stream of a network, from its modules."""
    return [stream_outline(network, number) for number in range(len(network.names))]


def stream_outline(network: Network, number: int) -> StreamOutline:
    """One stream."""
    config, name = network.config.streams[number], network.names[number]
    backbone = network.stream(name).backbone
    parts = []
    for part, units in backbone.parts.items():
        skip = dict(backbone.skip_temporal.items()).get(part)
        parts.append(
            PartOutline(
                f"{part}_x",
                backbone.channels[part],
                tuple(unit_outline(unit, is_gated(network, name, part, index)) for index, unit in enumerate(units)),
                filter_length(skip) if skip is not None else 0,
            )
        )
    stem = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    return StreamOutline(
        name,
        config.arch,
        stem.in_channels,
        f"{kernel(stem)}, {stem.out_channels}",
        tuple(parts),
        backbone.num_features,
        config.dropout,
    )


def unit_outline(unit: Unit, gated: bool) -> UnitOutline:
    """One unit; the temporal filter stands where it is computed, before the branch's last convolution."""
    convolutions = [kernel(conv) for name in ("conv1", "conv2", "conv3") if (conv := getattr(unit, name, None))]
    if unit.temporal is not None:
        convolutions.insert(-1, f"T{filter_length(unit.temporal)}")
    return UnitOutline(tuple(convolutions), gated, unit.downsample is not None)


def is_gated(network: Network, name: str, part: str, unit: int) -> bool:
    """True where the other stream enters."""
    return isinstance(network, TwoStream) and gate_name(name, part, unit) in network.gates


def kernel(convolution: Any) -> str:
    """`3x3`."""
    return "x".join(map(str, convolution.kernel_size))


def filter_length(temporal: nn.Module) -> int:
    """Chunks that a temporal filter spans; plugins' own filters may have other shapes."""
    return max(max(m.kernel_size) for m in temporal.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d))


def groups(items: tuple[UnitOutline, ...], shown: int = 4) -> list[tuple[int, UnitOutline | None, int]]:
    """(number of the first, unit, how many) with long parts cut short: their middle is a group of None."""
    if len(items) <= shown:
        return [(number, unit, 1) for number, unit in enumerate(items, 1)]
    first = [(number, unit, 1) for number, unit in enumerate(items[: shown - 2], 1)]
    return [*first, (shown - 1, None, len(items) - shown + 1), (len(items), items[-1], 1)]
