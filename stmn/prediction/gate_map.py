"""Where motion gates appearance: the magnitude of the features that multiply the other stream at a gate."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from stmn.nets.two_stream import TwoStream
from stmn.prediction.classifier import Classifier
from stmn.prediction.frame_maps import MapPart, choose_part, frame_inputs, map_frames
from stmn.prediction.windows import TimedFrame
from stmn.runtime.precision import exact_float32


class GateMap:
    """Maps of the gate at the second unit of a part: the mean over channels of |f(x_m)| (eq. 5).

    Each frame is processed as a single chunk, so temporal filters see no neighbours.

    Args:
        model: The model whose gate is shown.
        network: Its two-stream network.
        part: The part of the ResNet, "conv2" to "conv5".
    """

    def __init__(self, model: Classifier, network: TwoStream, part: MapPart) -> None:
        self.model, self.network, self.part = model, network, part

    @property
    def legend(self) -> tuple[str, str]:
        """Two lines that explain the map."""
        receiver = self.network.receivers[0]
        sender, sign = ("motion", "m") if receiver == "appearance" else ("appearance", "a")
        does = {"multiply": "multiplies", "add": "is added to"}.get(self.network.gate.fusion, "enters the gate of")
        return f"what {sender} sends at {self.part}, mean |f(x_{sign})|:", f"it {does} {receiver} there"

    def add_maps(self, frames: Iterable[TimedFrame]) -> Iterator[TimedFrame]:
        """Yield the same frames with their gate maps, a few frames late, because a flow stack reaches ahead."""
        for frame, found in map_frames(frames, self.model.stack_length, self.compute_maps):
            yield replace(frame, gate_map=found)

    @torch.inference_mode()
    def compute_maps(self, context: list[TimedFrame], which: range) -> Tensor:
        """(n, h, w) maps of the frames `which` of `context`.

        The other frames supply the flow around them. Beyond the ends of `context` the first or last field is repeated.
        """
        rgb, flow = frame_inputs(self.model, context, which)
        with exact_float32(), self.model.device.autocast():
            sent = self.network.gating_signal(self.part, rgb, flow)
        return sent.float().abs().mean(dim=1).cpu()


def find_gate_map(model: Classifier, part: MapPart | None) -> GateMap | None:
    """The gate map of a model, or None if it has no gates.

    Args:
        model: A model of one stream or two.
        part: The part whose gate is shown; by default the deepest one whose maps have enough positions to show where
            things are: conv5 for frames of 256 pixels.
    """
    network = model.fast_network
    if not isinstance(network, TwoStream) or not network.tied:
        return None
    return GateMap(model, network, choose_part(model, part))
