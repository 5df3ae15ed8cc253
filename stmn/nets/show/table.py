"""A network as rows of a table: streams and their parts, with gates, temporal filters and costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stmn.errors import count_of
from stmn.nets.network import FUSED, Network
from stmn.nets.show.cost import PartCost, sum_costs
from stmn.nets.show.outline import PartOutline, StreamOutline, outline_network

Kind = Literal["stream", "part", "head", "gate", "filter"]


@dataclass(frozen=True)
class NetworkRow:
    """A row of the table.

    Attributes:
        kind: a stream, one of its parts (the last is the head), or a gate or filter within the part above.
        label: `appearance`, `conv2_x`, `unit 2 gate`, ...
        layers: a few words on its layers.
        shape: shape of the output for one chunk, (C, h, w) or (classes,); empty if the row has none.
        parameters: number of parameters.
        multiply_adds: multiply-adds of convolutions and linear layers.
    """

    kind: Kind
    label: str
    layers: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def list_rows(network: Network, costs: list[PartCost]) -> Iterator[NetworkRow]:
    """Yield a network's rows in the order of the signal; `costs` are from `count_costs`."""
    shapes = {part.name: part.shape for part in costs}

    def row(kind: Kind, label: str, layers: str, shape: tuple[int, ...], *names: str) -> NetworkRow:
        sums = [sum_costs(costs, name) for name in names]
        return NetworkRow(kind, label, layers, shape, sum(p for p, _ in sums), sum(m for _, m in sums))

    for stream in outline_network(network):
        name = stream.name
        yield row("stream", name, f"{stream.arch}, {stream.in_channels} channels", (), name)
        yield row("part", "conv1, pool1", stream.stem, shapes[f"{name}.conv1"], f"{name}.conv1")
        for part in stream.parts:
            place, units = f"{name}.{part.name}", part.units
            layers = " ".join(layer for layer in units[0].layers if not layer.startswith("T"))
            last = shapes[f"{place}.unit{len(units)}"]
            yield row("part", part.name, f"{len(units)} x ({layers})", last, place)
            for kind, label, text, names in _list_insertions(network, place, part):
                yield row(kind, label, text, shapes[names[0]], *names)
        yield row("head", "pool, fc", _describe_head(network, stream), shapes[f"{name}.fc"], f"{name}.fc")
    if f"{FUSED}.fc" in shapes:
        yield row("stream", FUSED, "linear layer over both streams", shapes[f"{FUSED}.fc"], FUSED)
    elif network.outputs == [FUSED]:
        yield row("stream", FUSED, "mean of both streams' logits", ())


def _list_insertions(network: Network, place: str, part: PartOutline) -> Iterator[tuple[Kind, str, str, list[str]]]:
    """Yield the gates and temporal filters of a part: kind, label, description, and the names of their costs."""
    gated = [number for number, unit in enumerate(part.units, 1) if unit.gated]
    if gated and (gate := network.config.gate):
        other = "motion" if place.startswith("appearance.") else "appearance"
        where = "skip path too" if gate.site == "direct" else gate.operand.replace("_", "-").replace("relu", "ReLU")
        combined = {
            "multiply": f"multiplied by {other}",
            "add": f"{other} added",
            "blended_multiply": f"product with {other}, blended in",
        }
        text = combined.get(gate.fusion, f"{gate.fusion} with {other}")
        names = [f"{place}.unit{number}.gate" for number in gated]
        yield "gate", f"{_describe_units(gated)} gate", f"{text}, {where}", names
    for number, unit in enumerate(part.units, 1):
        for layer in unit.layers:
            if layer.startswith("T"):
                text = f"over {layer[1:]} chunks, residual branch"
                yield "filter", f"{_describe_units([number])} filter", text, [f"{place}.unit{number}.temporal"]
    if part.skip_filter:
        yield "filter", "end filter", f"over {part.skip_filter} chunks, skip path", [f"{place}.temporal"]


def _describe_units(numbers: list[int]) -> str:
    """Return numbers as `unit 2` or `unit 2-36`."""
    return f"unit {numbers[0]}" if len(numbers) == 1 else f"unit {numbers[0]}-{numbers[-1]}"


def _describe_head(network: Network, stream: StreamOutline) -> str:
    """Describe pooling over time and space, and dropout before the classifier."""
    temporal = network.config.temporal
    over = count_of(temporal.window, "chunk") if temporal.window else "T"
    pooled = "no pooling over T" if temporal.pool == "none" else f"{temporal.pool} over {over}"
    dropped = f", dropout {stream.dropout:g}" if stream.dropout else ""
    return f"{pooled}, mean {network.config.window}x{network.config.window}{dropped}"
