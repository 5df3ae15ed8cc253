"""The outline of a network, unit by unit; `stmn nets show` prints and draws it."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from stmn.nets.network import Network
from stmn.nets.two_stream import TwoStream, gate_name
from stmn.nets.units import Unit


@dataclass(frozen=True)
class UnitOutline:
    """A residual unit.

    Attributes:
        layers: layers of its residual branch, in order: `1x1`, `3x3`, or `T3` for a temporal filter over 3 chunks.
        gated: a gate combines it with the other stream.
        projected: its skip path has a convolution.
    """

    layers: tuple[str, ...]
    gated: bool
    projected: bool


@dataclass(frozen=True)
class PartOutline:
    """One of the parts conv2_x to conv5_x.

    Attributes:
        name: `conv2_x`, ...
        channels: channels of its output.
        units: its residual units, in order.
        skip_filter: chunks that the temporal filter after its last ReLU spans; 0 if there is none.
    """

    name: str
    channels: int
    units: tuple[UnitOutline, ...]
    skip_filter: int


@dataclass(frozen=True)
class StreamOutline:
    """A stream.

    Attributes:
        name: `appearance` or `motion`.
        arch: a ResNet of timm.
        in_channels: channels of its input.
        stem: its first convolution: `7x7, 64`.
        parts: conv2_x to conv5_x.
        features: inputs of its classifier.
        dropout: probability before the classifier.
    """

    name: str
    arch: str
    in_channels: int
    stem: str
    parts: tuple[PartOutline, ...]
    features: int
    dropout: float


def outline_network(network: Network) -> list[StreamOutline]:
    """Outline each stream of a network, from its modules."""
    return [_outline_stream(network, number) for number in range(len(network.names))]


def _outline_stream(network: Network, number: int) -> StreamOutline:
    """Outline one stream."""
    config, name = network.config.streams[number], network.names[number]
    backbone = network.stream(name).backbone
    parts = []
    for part, units in backbone.parts.items():
        skip = dict(backbone.skip_temporal.items()).get(part)
        parts.append(
            PartOutline(
                f"{part}_x",
                backbone.channels[part],
                tuple(_outline_unit(unit, _is_gated(network, name, part, index)) for index, unit in enumerate(units)),
                _measure_filter(skip) if skip is not None else 0,
            )
        )
    stem = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    return StreamOutline(
        name,
        config.arch,
        stem.in_channels,
        f"{_format_kernel(stem)}, {stem.out_channels}",
        tuple(parts),
        backbone.num_features,
        config.dropout,
    )


def _outline_unit(unit: Unit, gated: bool) -> UnitOutline:
    """Outline one unit."""
    layers = [_format_kernel(conv) for name in ("conv1", "conv2", "conv3") if (conv := getattr(unit, name, None))]
    if unit.temporal is not None:  # it comes before the branch's last convolution
        layers.insert(-1, f"T{_measure_filter(unit.temporal)}")
    return UnitOutline(tuple(layers), gated, unit.downsample is not None)


def _is_gated(network: Network, name: str, part: str, unit: int) -> bool:
    """True if a unit has a gate."""
    return isinstance(network, TwoStream) and gate_name(name, part, unit) in network.gates


def _format_kernel(convolution: Any) -> str:
    """Return a convolution's size as `3x3`."""
    return "x".join(map(str, convolution.kernel_size))


def _measure_filter(temporal: nn.Module) -> int:
    """Return how many chunks a temporal filter spans; a plugin's filter may have any shape."""
    return max(max(m.kernel_size) for m in temporal.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d))


def group_units(units: tuple[UnitOutline, ...]) -> list[tuple[int, UnitOutline | None, int]]:
    """Group the units of a part for drawing; the middle of a long part is left out.

    Args:
        units: the units of one part.

    Returns:
        At most four groups, each with the number of its first unit (from 1), the unit, and the number of units it
        stands for. The unit is None for those left out.
    """
    if len(units) <= 4:
        return [(number, unit, 1) for number, unit in enumerate(units, 1)]
    return [(1, units[0], 1), (2, units[1], 1), (3, None, len(units) - 3), (len(units), units[-1], 1)]
