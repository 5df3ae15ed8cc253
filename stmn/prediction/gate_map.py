"""Where motion gates appearance: the magnitude of what a gate multiplies the other stream's features with."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from stmn.evaluation.inference import Pictures, fit
from stmn.nets.network import TwoStream
from stmn.prediction.model import Scorer
from stmn.prediction.windows import Moment
from stmn.sampling.augment import Crop
from stmn.sampling.positions import stack_times

GateStage = Literal["conv2", "conv3", "conv4", "conv5"]
#: pixels from one place of a stage's maps to the next, the deepest stage first
STRIDES: dict[GateStage, int] = {"conv5": 32, "conv4": 16, "conv3": 8, "conv2": 4}
#: the least places along a map's short side that show where something is
PLACES = 8
#: frames in one forward pass
TOGETHER = 16


class GateMap:
    """The map of the gate at the second unit of a stage: mean over channels of |f(x_m)|, or what else the gate is sent.

    Each frame is a chunk of its own: temporal filters see no neighbours.
    """

    def __init__(self, model: Scorer, network: TwoStream, stage: GateStage) -> None:
        self.model, self.network, self.stage = model, network, stage

    @property
    def words(self) -> tuple[str, str]:
        """Two lines that say what the map shows."""
        receiver = self.network.receivers[0]
        sender, sign = ("motion", "m") if receiver == "appearance" else ("appearance", "a")
        does = {"multiply": "multiplies", "add": "is added to"}.get(self.network.gate.fusion, "enters the gate of")
        return f"what {sender} sends at {self.stage}, mean |f(x_{sign})|:", f"it {does} {receiver} there"

    def along(self, passing: Iterable[Moment]) -> Iterator[Moment]:
        """The same moments with their maps; a few frames late, for a stack reaches ahead."""
        reach = self.model.stack_length // 2
        stream = iter(passing)
        before: list[Moment] = []
        ahead = list(islice(stream, TOGETHER + reach))
        while ahead:
            some = ahead[:TOGETHER]
            maps = self.maps(before + ahead, range(len(before), len(before) + len(some)))
            yield from (replace(moment, gate=found) for moment, found in zip(some, maps, strict=True))
            before = (before + some)[-reach:] if reach else []
            ahead = ahead[TOGETHER:] + list(islice(stream, TOGETHER))

    @torch.inference_mode()
    def maps(self, context: list[Moment], which: range) -> Tensor:
        """(n, h, w) maps of some of the moments; the others lend their flow. Fields beyond the ends are repeated."""
        protocol = self.model.protocol(1)
        fields = [moment.levels for moment in context if moment.levels is not None]
        stacks = [stack_times(t, len(fields) + 1, self.model.stack_length) for t in which]
        pictures = Pictures(
            fit(torch.stack([context[t].frame for t in which]), protocol),
            fit(torch.stack(fields), protocol),
            torch.tensor(stacks),
        )
        height, width = pictures.size
        device = self.model.device
        given = pictures.inputs(self.network.names, Crop(0, 0, height, width))
        with device.autocast():  # each frame is a video of one chunk
            rgb, flow = (device.move(planes[:, None]) for planes in given)
            sent = self.network.sent(rgb, flow, int(self.stage[-1]) - 2)
        return sent.float().abs().mean(dim=1).cpu()


def gate_map(model: Scorer, stage: GateStage | None) -> GateMap | str:
    """The map of a model's gate, or words on why it has none.

    Without a stage it is the deepest one whose map has enough places to show where: conv5 of frames of 256 pixels.
    """
    if not isinstance(model.ready, TwoStream):
        return f"this model is the {model.network.names[0]} stream alone: it has no gates, and the overlay no gate map"
    side = model.protocol(1).short_side
    fine = [s for s, stride in STRIDES.items() if side >= PLACES * stride]
    return GateMap(model, model.ready, stage or (fine[0] if fine else "conv2"))
