"""The videos that a look inside reads, and where the objects in them are."""

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

#: asks a data set for the masks of a video at frame numbers: name -> (times, height, width)
Masks = Callable[[str, Sequence[int]], dict[str, NDArray[np.bool_]]]

#: chunks of each video, as in training (section 4.1)
CHUNKS = 5
#: pixels of all chunks together: what a look inside costs is about proportional to them
_PIXELS = 2**19
#: the fewest videos that are looked at, whatever their size, if there are so many
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
        """Name of an object -> (T, h, w), the share of each position of a map of that size that it covers, 0..1."""
        return {name: adaptive_avg_pool2d(mask[:, None], size)[:, 0] for name, mask in self.masks.items()}


def choose_videos(videos: Sequence[StoredVideo], short_side: int, most: int) -> list[StoredVideo]:
    """Videos spread evenly over a list, as many as are looked at within seconds.

    Args:
        videos: the list.
        short_side: of the frames that the network reads, pixels.
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
        masks: asks for the objects; None if the data set doesn't know them.

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
    """Runs of clips of one shape, at most `most` at a time."""
    batch: list[Clip] = []
    for clip in clips:
        if batch and (len(batch) == most or clip.inputs[0].shape != batch[0].inputs[0].shape):
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch


def stack_inputs(batch: Sequence[Clip]) -> list[Tensor]:
    """For each stream (B, T, C, H, W)."""
    return [torch.stack(column) for column in zip(*(clip.inputs for clip in batch), strict=True)]
