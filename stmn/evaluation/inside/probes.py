"""Record the inputs and outputs of gates, and exchange gates for others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stmn.nets.backbones import PARTS
from stmn.nets.fusions import Add, Multiply
from stmn.nets.two_stream import TwoStream, gate_name

#: the gate functions of equations (2) and (5)
FUSIONS: dict[str, Callable[[int], nn.Module]] = {"add": Add, "multiply": Multiply}


@dataclass(frozen=True)
class GatedUnit:
    """A unit with a gate.

    Attributes:
        key: the gate's name in `TwoStream.gates`.
        receiver: the stream that it gates, `appearance` or `motion`.
        part: `conv2` to `conv5`.
        unit: its number in the part, from 1.
        channels: channels of both operands.
    """

    key: str
    receiver: str
    part: str
    unit: int
    channels: int

    @property
    def sender(self) -> str:
        """The stream that sends to it."""
        return "motion" if self.receiver == "appearance" else "appearance"

    @property
    def label(self) -> str:
        """`conv2 unit 2`."""
        return f"{self.part} unit {self.unit}"


class NoGate(nn.Module):
    """Stands in for a gate and leaves the receiving stream as it is."""

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Return x_a."""
        return receiving


class Probe(nn.Module):
    """A gate that keeps its inputs and output, as nodes of the autograd graph.

    Attributes:
        fusion: the gate.
        given: f(x_m), as the sending stream has it.
        sent: a copy that only the gate reads, so its gradient is the part that comes through this gate.
        receiving: x_a.
        read: the residual branch's input.
    """

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion
        self.given = self.sent = self.receiving = self.read = torch.empty(0)

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        """Return the gate's output, and keep all three."""
        self.given, self.sent, self.receiving = sending, sending.clone(), receiving
        self.read = self.fusion(receiving, self.sent)
        return self.read


def list_gated_units(network: TwoStream) -> list[GatedUnit]:
    """Return the units that have a gate, in the order of the network."""
    found = []
    for part in PARTS:
        for receiver in network.receivers:
            for index, unit in enumerate(network.stream(receiver).backbone.parts[part]):
                key = gate_name(receiver, part, index)
                if key in network.gates:
                    found.append(GatedUnit(key, receiver, part, index + 1, unit.in_channels))
    return found


@contextmanager
def watch_gates(network: TwoStream, exchange: Callable[[int], nn.Module] | None = None) -> Iterator[dict[str, Probe]]:
    """Watch all gates of a network; leaving the block restores it.

    Args:
        network: it is changed within the block.
        exchange: makes a replacement for each gate from its number of channels; None for the network's own gates.

    Yields:
        The probe of each gate, by its name.
    """
    gates = network.gates
    own = dict(gates.items())
    units = list_gated_units(network)
    probes = {unit.key: Probe(exchange(unit.channels) if exchange else own[unit.key]) for unit in units}
    network.gates = nn.ModuleDict(probes)
    try:
        yield probes
    finally:
        network.gates = gates
