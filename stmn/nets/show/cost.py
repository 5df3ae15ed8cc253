"""What a network costs: parameters and multiply-adds of each of its parts, worked out from shapes alone."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stmn.nets.build import build_network
from stmn.nets.config import NetworkConfig
from stmn.nets.network import FUSED, Network
from stmn.nets.stream import Stream
from stmn.nets.two_stream import TwoStream, gate_name


@dataclass(frozen=True)
class PartCost:
    """A part of a network in one forward pass.

    `name`: `appearance.conv1`, `appearance.conv2_x.unit2` and what belongs to it, `.gate` and `.temporal`;
    `appearance.conv2_x.temporal` in the skip path; `appearance.fc`; `fused.fc`. `shape`: of its output for one chunk,
    (C, h, w) or (classes,). `multiply_adds` are those of convolutions and linear layers, as the ResNet paper counts
    them: normalisation, ReLU, pooling, sums and the gates' products are left out.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def sketch(config: NetworkConfig) -> Network:
    """The network without memory for its weights (on PyTorch's meta device). Raises `UsageError` as `build_network`."""
    with torch.device("meta"):
        return build_network(config)


def cost(network: Network, size: int) -> list[PartCost]:
    """The parts of a network and what each costs for one chunk of `size` x `size` pixels, in the order of the signal.

    The network itself is not run: a sketch of it is, so that nothing is computed or kept.
    """
    drawn = sketch(network.config).eval()
    config = drawn.config
    inputs = [torch.empty(1, 1, config.in_channels(s.modality), size, size, device="meta") for s in config.streams]
    given: dict[nn.Module, tuple[int, tuple[int, ...]]] = {}  # when a module gave its last output, and of what shape

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        given[module] = len(given), tuple(output.shape)

    listed = [(name, list(modules)) for name, modules in parts(drawn)]
    for _, modules in listed:
        for module in modules:
            module.register_forward_hook(note)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        drawn(*inputs)
    counted = {name.partition(".")[2]: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    names = {module: name for name, module in drawn.named_modules()}
    rows = []
    for name, modules in listed:
        last = max((given[module] for module in modules if module in given), default=(0, ()))
        rows.append(
            PartCost(
                name,
                last[1][-1:] if name.endswith(".fc") else last[1][1:],
                sum(p.numel() for module in modules for p in module.parameters()),
                sum(counted.get(names[module], 0) for module in modules) // 2,  # it counts a multiply-add as two
            )
        )
    return rows


def total(rows: Iterable[PartCost], prefix: str = "") -> tuple[int, int]:
    """Parameters and multiply-adds of all rows whose name is `prefix` or begins with it and a dot."""
    chosen = [row for row in rows if not prefix or row.name == prefix or row.name.startswith(prefix + ".")]
    return sum(row.parameters for row in chosen), sum(row.multiply_adds for row in chosen)


def parts(network: Network) -> Iterable[tuple[str, Iterable[nn.Module]]]:
    """Each part's name and the modules that it calls."""
    for name in network.names:
        for part, modules in stream_parts(network.stream(name)):
            yield f"{name}.{part}", modules
            place, _, unit = part.partition("_x.unit")
            if isinstance(network, TwoStream) and unit.isdigit():
                gate = gate_name(name, place, int(unit) - 1)
                if gate in network.gates:
                    yield f"{name}.{part}.gate", [network.gates[gate]]
    if isinstance(network, TwoStream) and network.config.prediction == "concatenated":
        yield f"{FUSED}.fc", [network.joint_fc]


def stream_parts(stream: Stream) -> Iterable[tuple[str, list[nn.Module]]]:
    """The parts of one stream, in the order of the signal."""
    backbone = stream.backbone
    units = {unit for of_part in backbone.parts.values() for unit in of_part}
    rest = [module for module in backbone.children() if module is not backbone.skip_temporal]
    yield "conv1", [module for module in rest if units.isdisjoint(module.modules())]
    for part, of_part in backbone.parts.items():
        for number, unit in enumerate(of_part, start=1):
            yield f"{part}_x.unit{number}", [m for m in unit.children() if m is not unit.temporal]
            if unit.temporal is not None:
                yield f"{part}_x.unit{number}.temporal", [unit.temporal]
        if part in backbone.skip_temporal:
            yield f"{part}_x.temporal", [backbone.skip_temporal[part]]
    yield "fc", [stream.fc]
