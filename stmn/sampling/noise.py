"""Noise instead of a stream's pictures, with the same mean and deviation: a control that shows what the stream adds.

In training, noise differs each time a picture is read; in testing it is a function of the seed and the video. It has no
shape, no movement, and the same brightness in all videos, so it says nothing about their class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from stmn.errors import DataError
from stmn.sampling.augment import FLOW_TO_INPUT, RGB_TO_INPUT
from stmn.sampling.resample import Floats
from stmn.store.format.read import Store, StoredVideo
from stmn.store.format.shard import FLOW, RGB

#: a stream that sees noise
BlankStream = Literal["appearance", "motion"]
#: at most this many videos of a list are measured, evenly spread over it
_MEASURED = 200


@dataclass(frozen=True)
class Noise:
    """Independent normal values for each pixel and channel.

    Attributes:
        stream: the stream that sees it.
        mean: mean of each channel, in levels 0..255.
        deviation: standard deviation of each channel, in levels.
        seed: seed of the noise in testing.
    """

    stream: BlankStream
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    seed: int = 0

    @property
    def kind(self) -> int:
        """The kind of picture that it replaces."""
        return RGB if self.stream == "appearance" else FLOW

    def draw(self, shape: tuple[int, int, int, int], rng: Generator) -> Floats:
        """Draw pictures (N, channels, H, W), in levels."""
        drawn = rng.standard_normal(shape, dtype=np.float32)
        drawn *= np.asarray(self.deviation, np.float32)[:, None, None]
        drawn += np.asarray(self.mean, np.float32)[:, None, None]
        return drawn

    def fill(self, out: Floats, rng: Generator) -> None:
        """Write a picture, (channels, H, W), in the network's input range."""
        levels = RGB_TO_INPUT if self.stream == "appearance" else FLOW_TO_INPUT
        drawn = self.draw((1, *out.shape), rng)[0]
        np.multiply(drawn - levels.mean[:, None, None], levels.scale[:, None, None], out=out)


def measure_noise(store: Store, videos: Sequence[StoredVideo], stream: BlankStream, seed: int = 0) -> Noise:
    """Make noise with the mean and deviation of the pictures of some videos: all pixels of each middle picture.

    Args:
        store: the prepared set.
        videos: videos, such as a training list; a long list is sampled evenly.
        stream: the stream whose pictures are measured.
        seed: seed of the noise in testing.

    Raises:
        DataError: a picture is missing or damaged, or there is none.
    """
    kind = RGB if stream == "appearance" else FLOW
    sums: list[np.ndarray] = []
    shown = [video for video in videos if video.frames > 1] if kind == FLOW else videos
    for video in shown[:: max(1, -(-len(shown) // _MEASURED))]:
        middle = (video.frames - 1) // 2
        [(_, picture)] = store.pictures(video.id, kind, [middle])
        rows = (picture.reshape(-1, 3).T if kind == RGB else picture.reshape(2, -1)).astype(np.float64)
        sums.append(np.stack([np.full(len(rows), rows.shape[1]), rows.sum(axis=1), (rows**2).sum(axis=1)]))
    if not sums:
        raise DataError(f"{store.folder}: no training video has flow, which noise is to have the mean and deviation of")
    count, first, second = np.sum(sums, axis=0)
    mean = first / count
    deviation = np.sqrt(np.maximum(second / count - mean**2, 0))
    return Noise(stream, tuple(mean.tolist()), tuple(deviation.tolist()), seed)
