"""The parameters and multiply-adds of each part of a network, computed from shapes only."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stmn.nets.build import sketch_network
from stmn.nets.network import FUSED, Network
from stmn.nets.stream import Stream
from stmn.nets.two_stream import TwoStream, gate_name


@dataclass(frozen=True)
class PartCost:
    """The cost of one part of a network for one chunk.

    Attributes:
        name: `appearance.conv1`; `appearance.conv2_x.unit2`, with its `.gate` and `.temporal` filter;
            `appearance.conv2_x.temporal`, the filter in the skip path; `appearance.fc`; `fused.fc`.
        shape: shape of the output, (C, h, w) or (classes,).
        parameters: number of parameters.
        multiply_adds: multiply-adds of convolutions and linear layers, counted as in the ResNet paper. Normalisation,
            ReLU, pooling, sums and the gates' products are not counted.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def count_costs(network: Network, size: int) -> list[PartCost]:
    """Count the parameters and multiply-adds of each part for one chunk.

    The network itself isn't run. A sketch of it runs instead, without values.

    Args:
        network: left unchanged.
        size: side of the square frames in pixels.

    Returns:
        The parts in the order of the signal.
    """
    drawn = sketch_network(network.config).eval()
    config = drawn.config
    inputs = [torch.empty(1, 1, config.in_channels(s.modality), size, size, device="meta") for s in config.streams]
    outputs: dict[nn.Module, tuple[int, tuple[int, ...]]] = {}  # module -> (position in the pass, shape)

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        outputs[module] = len(outputs), tuple(output.shape)

    parts = [(name, list(modules)) for name, modules in _list_parts(drawn)]
    for _, modules in parts:
        for module in modules:
            module.register_forward_hook(note)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        drawn(*inputs)
    flops = {name.partition(".")[2]: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    names = {module: name for name, module in drawn.named_modules()}
    costs = []
    for name, modules in parts:
        _, shape = max((outputs[module] for module in modules if module in outputs), default=(0, ()))
        costs.append(
            PartCost(
                name,
                shape[-1:] if name.endswith(".fc") else shape[1:],
                sum(p.numel() for module in modules for p in module.parameters()),
                sum(flops.get(names[module], 0) for module in modules) // 2,  # the counter counts a multiply-add as two
            )
        )
    return costs


def sum_costs(costs: Iterable[PartCost], prefix: str = "") -> tuple[int, int]:
    """Sum the costs of parts.

    Args:
        costs: costs of a network's parts.
        prefix: sum only the part of this name and those within it (`appearance.conv2_x`); "" sums all.

    Returns:
        Parameters and multiply-adds.
    """
    chosen = [cost for cost in costs if not prefix or cost.name == prefix or cost.name.startswith(prefix + ".")]
    return sum(cost.parameters for cost in chosen), sum(cost.multiply_adds for cost in chosen)


def _list_parts(network: Network) -> Iterable[tuple[str, Iterable[nn.Module]]]:
    """Yield each part's name and the modules that it calls."""
    for name in network.names:
        for part, modules in _list_stream_parts(network.stream(name)):
            yield f"{name}.{part}", modules
            place, _, unit = part.partition("_x.unit")
            if isinstance(network, TwoStream) and unit.isdigit():
                gate = gate_name(name, place, int(unit) - 1)
                if gate in network.gates:
                    yield f"{name}.{part}.gate", [network.gates[gate]]
    if isinstance(network, TwoStream) and network.config.prediction == "concatenated":
        yield f"{FUSED}.fc", [network.joint_fc]


def _list_stream_parts(stream: Stream) -> Iterable[tuple[str, list[nn.Module]]]:
    """Yield the parts of one stream, in the order of the signal."""
    backbone = stream.backbone
    all_units = {unit for units in backbone.parts.values() for unit in units}
    rest = [module for module in backbone.children() if module is not backbone.skip_temporal]
    yield "conv1", [module for module in rest if all_units.isdisjoint(module.modules())]
    for part, units in backbone.parts.items():
        for number, unit in enumerate(units, start=1):
            yield f"{part}_x.unit{number}", [module for module in unit.children() if module is not unit.temporal]
            if unit.temporal is not None:
                yield f"{part}_x.unit{number}.temporal", [unit.temporal]
        if part in backbone.skip_temporal:
            yield f"{part}_x.temporal", [backbone.skip_temporal[part]]
    yield "fc", [stream.fc]
