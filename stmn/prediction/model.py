"""A network with what its checkpoint says of its input: which pictures it wants, and the scores it gives them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stmn.errors import DataError
from stmn.evaluation.inference import Pictures, fit, for_inference, score_pictures
from stmn.evaluation.protocol import Protocol
from stmn.flow.estimator import load_estimator
from stmn.flow.pairs import FlowFunction
from stmn.nets.checkpoint import Description
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.sampling.augment import short_side_for_test
from stmn.sampling.positions import spread_positions, stack_times


@dataclass(frozen=True)
class Prediction:
    """A class and its score, the soft-max of the mean over streams: 0..1."""

    class_name: str
    score: float


@dataclass(frozen=True)
class Wanted:
    """What is looked at of `count` frames: those at `times`, and the flow fields of their stacks.

    Times are frame numbers, and field i leads from frame i to frame i + 1.
    """

    count: int
    times: list[int]
    stacks: list[list[int]]

    @property
    def fields(self) -> list[int]:
        """All fields, in order, each once."""
        return sorted({i for stack in self.stacks for i in stack})


class Scorer:
    """A network with all that a checkpoint says of how its input is made.

    `stream` names the output whose scores count, where a network has several; by default their mean counts.
    """

    def __init__(self, network: Network, description: Description, device: Device, stream: str | None = None) -> None:
        self.network = network
        self.description = description
        self.device = device
        self.stream = stream
        device.place(network).eval()
        #: what scores: the same network in less time
        self.ready = for_inference(network, device)

    @property
    def classes(self) -> list[str]:
        """The class names, in the order of the scores."""
        return self.description.network.classes

    @property
    def stack_length(self) -> int:
        """Flow fields in a stack."""
        return self.description.network.stack_length

    @property
    def reads_flow(self) -> bool:
        """True when one of its streams is motion."""
        return "motion" in self.network.names

    def flow(self) -> FlowFunction:
        """The flow of its training data; none is computed where no stream reads it."""
        how = self.description.preparation
        return load_estimator(how.flow, how.flow_options) if self.reads_flow else no_flow

    def protocol(self, frames: int, flips: bool = True) -> Protocol:
        """Whole frames, `frames` chunks; mirrors where the training data allowed them."""
        size, keeps = self.description.network.size, self.description.keeps
        return Protocol(
            chunks=frames, flips=flips and "mirror" in keeps, short_side=short_side_for_test(size, keeps), crop=size
        )

    def wanted(self, count: int, frames: int, name: str) -> Wanted:
        """What to look at of a video of `count` frames. Raises `DataError` when it has too few."""
        if count == 0:
            raise DataError(f"{name}: holds no frames")
        if self.reads_flow and count == 1:
            raise DataError(f"{name}: one frame has no motion, and this model reads flow")
        times = spread_positions(count, self.stack_length, frames)
        return Wanted(count, times, [stack_times(t, count, self.stack_length) for t in times])

    def pictures(
        self, wanted: Wanted, frames: Mapping[int, Tensor], levels: Mapping[int, Tensor], protocol: Protocol
    ) -> Pictures:
        """The network's pictures, of (3, H, W) frames and (2, H, W) flow levels by their numbers, uint8."""
        fields = wanted.fields
        return Pictures(
            fit(torch.stack([frames[t] for t in wanted.times]), protocol)
            if "appearance" in self.network.names
            else None,
            fit(torch.stack([levels[i] for i in fields]), protocol) if self.reads_flow else None,
            torch.tensor([[fields.index(i) for i in stack] for stack in wanted.stacks]),
        )

    def outputs(self, pictures: Pictures, protocol: Protocol) -> list[Tensor]:
        """(classes,) class scores of each of the network's outputs that counts, before the soft-max."""
        scores = score_pictures(self.ready, [pictures], protocol, self.device)
        named = dict(zip(self.network.outputs, scores, strict=True))
        return [scores[0] for name, scores in named.items() if self.stream in (None, name)]

    def shortage(self, count: int) -> str:
        """Words on `count` frames that are fewer than a flow stack spans; empty when they are enough."""
        if not self.reads_flow or count > self.stack_length:
            return ""
        return (
            f"{count} frames are too short for a stack of {self.stack_length} flow fields: "
            f"the first and the last field are repeated"
        )

    def ranked(self, scores: Tensor) -> list[Prediction]:
        """All classes, best first, of (classes,) scores before the soft-max."""
        values = scores.softmax(dim=0)
        return [Prediction(self.classes[i], float(values[i])) for i in values.argsort(descending=True).tolist()]


def no_flow(first: Tensor, second: Tensor) -> Tensor:
    """Stands in for the flow where no stream reads it."""
    return torch.zeros(len(first), 2, *first.shape[1:])
