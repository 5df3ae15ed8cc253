"""Compute maps for each frame of a video with a network, a few frames at a time."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from stmn.evaluation.video_input import make_input
from stmn.prediction.classifier import Classifier
from stmn.prediction.windows import TimedFrame
from stmn.sampling.augment import Crop
from stmn.sampling.positions import stack_times

MapPart = Literal["conv2", "conv3", "conv4", "conv5"]
#: input pixels from one position of a part's maps to the next, deepest part first
_STRIDES: dict[MapPart, int] = {"conv5": 32, "conv4": 16, "conv3": 8, "conv2": 4}
#: positions along a map's short side that suffice to show where something is
_ENOUGH_POSITIONS = 8
#: frames in one forward pass
_FRAMES_PER_PASS = 16

#: computes the maps of the frames `which` of `context`, whose other frames supply the flow around them
ComputeMaps = Callable[[list[TimedFrame], range], Tensor]


def choose_part(model: Classifier, part: MapPart | None) -> MapPart:
    """Choose the part whose maps are shown: `part`, or the deepest one with enough positions to show where things are.

    For frames of 256 pixels that is conv5.
    """
    side = model.protocol(1).short_side
    fine_enough = [part for part, stride in _STRIDES.items() if side >= _ENOUGH_POSITIONS * stride]
    return part or (fine_enough[0] if fine_enough else "conv2")


def map_frames(
    frames: Iterable[TimedFrame], stack_length: int, compute: ComputeMaps
) -> Iterator[tuple[TimedFrame, Tensor]]:
    """Yield frames with their maps, a few frames late, because a flow stack reaches ahead."""
    reach = stack_length // 2
    stream = iter(frames)
    before: list[TimedFrame] = []
    ahead = list(islice(stream, _FRAMES_PER_PASS + reach))
    while ahead:
        batch = ahead[:_FRAMES_PER_PASS]
        maps = compute(before + ahead, range(len(before), len(before) + len(batch)))
        yield from zip(batch, maps, strict=True)
        before = (before + batch)[-reach:] if reach else []
        ahead = ahead[_FRAMES_PER_PASS:] + list(islice(stream, _FRAMES_PER_PASS))


def frame_inputs(model: Classifier, context: list[TimedFrame], which: range) -> list[Tensor]:
    """The network's input for frames, each as a video of one chunk, so that temporal filters see no neighbours.

    Args:
        model: The model.
        context: Frames in order. Beyond their ends the first or last flow field is repeated.
        which: The frames that are wanted.

    Returns:
        For each stream (n, 1, channels, H, W), on the device.
    """
    protocol = model.protocol(1)
    fields = stacks = None
    if model.reads_flow:
        flows = [frame.flow for frame in context if frame.flow is not None]
        fields = torch.stack(flows)
        stacks = torch.tensor([stack_times(t, len(flows) + 1, model.stack_length) for t in which])
    frames = torch.stack([context[t].frame for t in which])
    given = make_input(frames, fields, stacks, protocol, model.device)
    inputs = given.network_inputs(model.network.names, Crop(0, 0, *given.size), model.device)
    return [channels[:, None] for channels in inputs]
