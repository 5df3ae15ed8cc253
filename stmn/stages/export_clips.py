"""Clips on which an exported file is compared with its network: training videos of the model, or drawn ones."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stmn.errors import StmnError, count_of
from stmn.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from stmn.evaluation.protocol import Protocol
    from stmn.nets.checkpoint import Description

#: chunks per clip, as in a training sample
CHUNKS = 5


@dataclass(frozen=True)
class ClipInputs:
    """The network's inputs from clips, (1, T, channels, H, W) for each stream; and words for the clips."""

    inputs: "list[list[Tensor]]"
    words: str
    drawn: bool = False


def read_clips(description: "Description", workspace: Workspace, count: int) -> ClipInputs:
    """Inputs from training videos of a model if its data set is in the workspace, else from drawn pictures.

    Args:
        description: The model's description, with its training list.
        workspace: Where its data set may be.
        count: The most clips.
    """
    known = description.trained_on
    if known.data in workspace.prepared():
        try:
            return _read_training_clips(description, workspace, count)
        except StmnError:  # the set has changed since: use drawn pictures
            pass
    return ClipInputs([_draw_clip(description, number) for number in range(count)], "drawn pictures", True)


def protocol_of(description: "Description", chunks: int) -> "Protocol":
    """Whole frames at the test's short side, without mirrors."""
    from stmn.evaluation.protocol import Protocol

    size = description.network.size
    return Protocol(chunks=chunks, flips=False, short_side=description.test_short_side, crop=size)


def _read_training_clips(description: "Description", workspace: Workspace, count: int) -> ClipInputs:
    """Inputs from the first training videos that are still in the set."""
    from stmn.errors import DataError
    from stmn.evaluation.video_input import read_stored_video
    from stmn.runtime.device import choose_device
    from stmn.store.format.read import Store

    config, memory = description.network, choose_device("cpu")
    names, protocol = [stream.name for stream in config.streams], protocol_of(description, CHUNKS)
    inputs = []
    with Store(workspace.find_data(description.trained_on.data)) as store:
        for video_id in description.trained_on.videos[:count]:
            given = read_stored_video(store, store.video(video_id), names, config.stack_length, protocol, memory)
            [view] = protocol.views(*given.size)
            inputs.append([planes[None] for planes in given.network_inputs(names, view, memory)])
    if not inputs:
        raise DataError("the model names no training videos")
    return ClipInputs(inputs, count_of(len(inputs), "training video"))


def _draw_clip(description: "Description", number: int) -> "list[Tensor]":
    """The network's inputs from a smooth pattern that moves two pixels per frame."""
    import torch

    from stmn.flow.quantise import ZERO_LEVEL
    from stmn.sampling.augment import normalise_flow, normalise_rgb

    config, side = description.network, description.test_short_side
    x, y = torch.arange(side + 16.0), torch.arange(float(side))[:, None]
    planes = []
    for stream in config.streams:
        if stream.modality == "rgb":
            waves = [
                torch.sin((x - 2 * t) / (5 + 3 * plane) + y / (9 + number)) for t in range(CHUNKS) for plane in range(3)
            ]
            frames = (127 + 100 * torch.stack(waves)).round().view(CHUNKS, 3, *waves[0].shape)
            planes.append(normalise_rgb(frames)[None])
        else:
            level = round(2 * 255 / (2 * description.preparation.bound))
            fields = torch.full((CHUNKS * config.stack_length, 2, side, side + 16), float(ZERO_LEVEL))
            fields[:, 0, side // 4 : side // 2] += level
            stacks = normalise_flow(fields.clamp(0, 255)).view(CHUNKS, 2 * config.stack_length, side, side + 16)
            planes.append(stacks[None])
    return planes
