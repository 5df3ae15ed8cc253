"""The videos that are read to look inside a network, and where the objects in them are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from stmn.evaluation.protocol import Protocol
from stmn.evaluation.video_input import read_stored_video
from stmn.nets.checkpoint import Description
from stmn.runtime.device import choose_device
from stmn.sampling.augment import Crop
from stmn.sampling.positions import spread_positions
from stmn.store.format.read import Store, StoredVideo

#: maps a video's id and frame numbers to masks of its objects: name -> (times, height, width)
Masks = Callable[[str, Sequence[int]], dict[str, NDArray[np.bool_]]]

#: chunks of each video, as in training (section 4.1)
CHUNKS = 5
#: largest number of pixels in all chunks together; the time is roughly proportional to it
_PIXELS = 2**19
#: look at no fewer videos than this, whatever their size, if there are as many
_FEWEST = 2


@dataclass(frozen=True)
class Clip:
    """A video as a network reads it.

    Attributes:
        id: its id in the set.
        label: number of its class.
        group: its group; its id if it has none.
        inputs: for each stream (T, C, H, W).
        times: frame numbers of the chunks.
        masks: name of an object -> (T, height, width) in the pixels of the source video; empty if unknown.
    """

    id: str
    label: int
    group: str
    inputs: list[Tensor]
    times: list[int]
    masks: dict[str, Tensor] = field(default_factory=dict)

    def cover(self, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return name of an object -> (T, h, w), the share of each position of an h x w map that it covers, 0..1."""
        return {name: adaptive_avg_pool2d(mask[:, None], size)[:, 0] for name, mask in self.masks.items()}


def choose_videos(videos: Sequence[StoredVideo], short_side: int, most: int) -> list[StoredVideo]:
    """Choose videos spread evenly over a list, few enough that looking at them takes only seconds.

    Args:
        videos: the list.
        short_side: short side of the frames that the network reads, in pixels.
        most: the largest number of videos.
    """
    if not videos:
        return []
    longest = max(v.width * v.height / min(v.width, v.height) ** 2 for v in videos) * short_side**2
    count = min(len(videos), most, max(_FEWEST, int(_PIXELS / (CHUNKS * longest))))
    return [videos[round(i)] for i in np.linspace(0, len(videos) - 1, count)] if count else []


def read_clips(
    store: Store, videos: Sequence[StoredVideo], description: Description, names: Sequence[str], masks: Masks | None
) -> list[Clip]:
    """Read videos in whole frames, at the scale of training.

    Args:
        store: the prepared set.
        videos: videos of the set.
        description: what the model file says about its network.
        names: the network's streams.
        masks: gives the masks of the objects; None if the data set has none.

    Raises:
        DataError: the set is damaged.
    """
    network, memory = description.network, choose_device("cpu")
    protocol = Protocol(chunks=CHUNKS, short_side=description.test_short_side, crop=network.size)
    numbers = {name: number for number, name in enumerate(network.classes)}
    clips = []
    for video in videos:
        given = read_stored_video(store, video, names, network.stack_length, protocol, memory)
        times = spread_positions(video.frames, network.stack_length, protocol.chunks)
        found = masks(video.id, times) if masks else {}
        clips.append(
            Clip(
                id=video.id,
                label=numbers[video.class_name],
                group=video.group or video.id,
                inputs=given.network_inputs(names, Crop(0, 0, *given.size), memory),
                times=times,
                masks={name: torch.from_numpy(mask).float() for name, mask in found.items()},
            )
        )
    return clips


def in_batches(clips: Sequence[Clip], most: int = 16) -> Iterator[list[Clip]]:
    """Yield runs of consecutive clips of the same shape, at most `most` at a time."""
    batch: list[Clip] = []
    for clip in clips:
        if batch and (len(batch) == most or clip.inputs[0].shape != batch[0].inputs[0].shape):
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch


def stack_inputs(batch: Sequence[Clip]) -> list[Tensor]:
    """Return for each stream (B, T, C, H, W)."""
    return [torch.stack(column) for column in zip(*(clip.inputs for clip in batch), strict=True)]
