"""Where motion gates appearance: the magnitude of the features that a gate multiplies the other stream with."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from stmn.evaluation.inference import VideoInput, resize_to_protocol
from stmn.nets.two_stream import TwoStream
from stmn.prediction.classifier import Classifier
from stmn.prediction.windows import TimedFrame
from stmn.runtime.precision import exact_float32
from stmn.sampling.augment import Crop
from stmn.sampling.positions import stack_times

GatePart = Literal["conv2", "conv3", "conv4", "conv5"]
#: input pixels from one position of a part's maps to the next, deepest part first
_STRIDES: dict[GatePart, int] = {"conv5": 32, "conv4": 16, "conv3": 8, "conv2": 4}
#: positions along a map's short side that are enough to show where something is
_ENOUGH_POSITIONS = 8
#: frames in one forward pass
_FRAMES_PER_PASS = 16


class GateMap:
    """Maps of the gate at the second unit of a part: the mean over channels of |f(x_m)| (eq. 5).

    Each frame is a chunk of its own, so temporal filters see no neighbours.

    Args:
        model: The model whose gate is shown.
        network: Its two-stream network.
        part: The part of the ResNet, "conv2" to "conv5".
    """

    def __init__(self, model: Classifier, network: TwoStream, part: GatePart) -> None:
        self.model, self.network, self.part = model, network, part

    @property
    def legend(self) -> tuple[str, str]:
        """Two lines that say what the map shows."""
        receiver = self.network.receivers[0]
        sender, sign = ("motion", "m") if receiver == "appearance" else ("appearance", "a")
        does = {"multiply": "multiplies", "add": "is added to"}.get(self.network.gate.fusion, "enters the gate of")
        return f"what {sender} sends at {self.part}, mean |f(x_{sign})|:", f"it {does} {receiver} there"

    def add_maps(self, frames: Iterable[TimedFrame]) -> Iterator[TimedFrame]:
        """Yield the same frames with their gate maps, a few frames late because a flow stack reaches ahead."""
        reach = self.model.stack_length // 2
        stream = iter(frames)
        before: list[TimedFrame] = []
        ahead = list(islice(stream, _FRAMES_PER_PASS + reach))
        while ahead:
            batch = ahead[:_FRAMES_PER_PASS]
            maps = self.compute_maps(before + ahead, range(len(before), len(before) + len(batch)))
            yield from (replace(frame, gate_map=found) for frame, found in zip(batch, maps, strict=True))
            before = (before + batch)[-reach:] if reach else []
            ahead = ahead[_FRAMES_PER_PASS:] + list(islice(stream, _FRAMES_PER_PASS))

    @torch.inference_mode()
    def compute_maps(self, context: list[TimedFrame], which: range) -> Tensor:
        """(n, h, w) maps of the frames `which` of `context`.

        The other frames supply the flow around them. Beyond the ends of `context` the first or last field is repeated.
        """
        protocol = self.model.protocol(1)
        fields = [frame.flow for frame in context if frame.flow is not None]
        stacks = [stack_times(t, len(fields) + 1, self.model.stack_length) for t in which]
        given = VideoInput(
            resize_to_protocol(torch.stack([context[t].frame for t in which]), protocol),
            resize_to_protocol(torch.stack(fields), protocol),
            torch.tensor(stacks),
        )
        height, width = given.size
        device = self.model.device
        inputs = given.network_inputs(self.network.names, Crop(0, 0, height, width))
        with exact_float32(), device.autocast():  # each frame is a video of one chunk
            rgb, flow = (device.move(channels[:, None]) for channels in inputs)
            sent = self.network.gating_signal(self.part, rgb, flow)
        return sent.float().abs().mean(dim=1).cpu()


def find_gate_map(model: Classifier, part: GatePart | None) -> GateMap | None:
    """The gate map of a model, or None if it has no gates.

    Args:
        model: A model of one stream or two.
        part: The part whose gate is shown. By default the deepest one whose maps have enough positions to show where
            something is: conv5 for frames of 256 pixels.
    """
    network = model.fast_network
    if not isinstance(network, TwoStream) or not network.tied:
        return None
    side = model.protocol(1).short_side
    fine_enough = [part for part, stride in _STRIDES.items() if side >= _ENOUGH_POSITIONS * stride]
    return GateMap(model, network, part or (fine_enough[0] if fine_enough else "conv2"))
