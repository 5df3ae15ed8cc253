"""Training samples: what a step sees of a video is a function of only (seed, epoch, video)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stmn.errors import DataError
from stmn.sampling.augment import Augmentation, Crop, cut_field, cut_frame, draw_crop, mirror_order
from stmn.sampling.buffers import BufferPool
from stmn.sampling.colour import ColourJitter, Colours
from stmn.sampling.noise import Noise
from stmn.sampling.order import Index
from stmn.sampling.positions import draw_positions, draw_segments, spread_positions, stack_times
from stmn.sampling.resample import Floats
from stmn.store.format.read import Store, StoredVideo
from stmn.store.format.shard import FLOW, RGB, picture_key

#: modality -> kind of picture in the store, and its name in messages
_KINDS = {"rgb": (RGB, "frames"), "flow": (FLOW, "flow")}


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn from a video.

    Attributes:
        modalities: "rgb", "flow" or both.
        size: side of the resized crop, pixels.
        stack_length: L, flow fields per chunk.
        chunks: T, chunks per sample.
        stride: smallest and largest temporal stride between chunks, frames.
        augmentation: the kind of crop.
        seed: seed of everything drawn.
        chunks_by: "stride": chunks are equally far apart. "segments": one is drawn from each of T equal segments.
        colour: how far the colours of the frames may change.
        balance: show each class equally often.
        noise: the noise that one of the streams sees instead of its pictures.
    """

    modalities: tuple[str, ...]
    size: int
    stack_length: int
    chunks: int = 1
    stride: tuple[int, int] = (5, 35)
    augmentation: Augmentation = "jitter"
    seed: int = 0
    chunks_by: Literal["stride", "segments"] = "stride"
    colour: ColourJitter | None = None
    balance: bool = False
    noise: Noise | None = None


@dataclass(frozen=True)
class Draw:
    """The sample that is drawn from a video for a step.

    Attributes:
        video: the video.
        label: its class number; if it is mirrored, that of the class that the mirrored video shows.
        crop: the box cut out of all pictures.
        times: modality -> times of its pictures: T frames, or T * L fields, chunk by chunk.
        colours: how the colours of the frames change; None if they don't.
        noise: the kind of picture that is replaced by noise, and the generator that draws it; None for no noise.
    """

    video: StoredVideo
    label: int
    crop: Crop
    times: dict[str, list[int]]
    colours: Colours | None
    noise: tuple[int, np.random.Generator] | None


class Clips:
    """The samples of a list of videos.

    An index is (epoch, video number); epoch -1 is the plain centre sample. An optional third number is the temporal
    stride, which is otherwise drawn for each video.

    Args:
        store: the prepared set.
        videos: its videos.
        sampling: how samples are drawn.
    """

    def __init__(self, store: Store, videos: Sequence[StoredVideo], sampling: Sampling) -> None:
        self.store, self.videos, self.sampling = store, list(videos), sampling
        self._classes = {name: number for number, name in enumerate(store.header.classes)}
        self._mirrored = mirror_order(store.header.classes, store.header.mirror_pairs)

    @property
    def labels(self) -> list[int]:
        """The class number of each video."""
        return [self._classes[video.class_name] for video in self.videos]

    @property
    def balanced_labels(self) -> list[int] | None:
        """`labels` for `sample_order` if each class is to be shown equally often, else None."""
        return self.labels if self.sampling.balance else None

    def check_pictures(self) -> None:
        """Make sure that each video has pictures of each modality.

        Raises:
            DataError: one has none, as in a set prepared without flow.
        """
        for modality in self.sampling.modalities:
            kind, name = _KINDS[modality]
            for video in self.videos:
                key = picture_key(video.number, kind, 0)
                if not self.store.query(video.shard, "SELECT 1 FROM pictures WHERE key = ?", [key]):
                    raise DataError(
                        f"{self.store.folder}: video '{video.id}' has no {name} stored, which this network is trained "
                        f"on; prepare the set again with {name}"
                    )

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: Index) -> dict[str, Tensor]:
        """Return `rgb` (T, 3, size, size) and/or `flow` (T, 2L, size, size), float32, and `label` () int64."""
        batch = self.make_batch(1)
        self.fill_row(batch, 0, index)
        return {name: values[0] for name, values in batch.items()}

    def make_batch(self, count: int, buffers: BufferPool | None = None) -> dict[str, Tensor]:
        """Return a batch of `count` samples with unset values."""
        buffers = buffers or BufferPool(0)
        batch = {name: torch.from_numpy(buffers.take((count, *self.shape(name)))) for name in self.sampling.modalities}
        return batch | {"label": torch.empty(count, dtype=torch.long)}

    def shape(self, modality: str) -> tuple[int, int, int, int]:
        """Return the shape of a sample's tensor: (T, channels, size, size)."""
        sampling = self.sampling
        channels = 3 if modality == "rgb" else 2 * sampling.stack_length
        return sampling.chunks, channels, sampling.size, sampling.size

    def draw(self, index: Index) -> Draw:
        """Draw a sample of a video."""
        epoch, number, *given = index
        video, sampling = self.videos[number], self.sampling
        rng = None if epoch < 0 else np.random.default_rng([sampling.seed, epoch, number])
        if sampling.chunks_by == "segments":
            times = draw_segments(video.frames, sampling.stack_length, sampling.chunks, rng)
        elif rng is None:
            times = spread_positions(video.frames, sampling.stack_length, sampling.chunks)
            times = [times[i * len(times) // sampling.chunks] for i in range(sampling.chunks)]
        else:
            stride = (given[0], given[0]) if given else sampling.stride
            times = draw_positions(video.frames, sampling.stack_length, sampling.chunks, stride, rng)
        crop = draw_crop(video.height, video.width, sampling.augmentation, self.store.header.keeps, rng)
        colours = sampling.colour.draw(rng) if sampling.colour and rng else None  # last: it changes no other draw
        label = self._classes[video.class_name]
        label = self._mirrored[label] if crop.mirror else label
        noise = None
        if sampling.noise:
            noise = sampling.noise.kind, np.random.default_rng([sampling.seed, epoch + 1, number, 1])
        stacks = [t for chunk in times for t in stack_times(chunk, video.frames, sampling.stack_length)]
        return Draw(video, label, crop, {"rgb": times, "flow": stacks}, colours, noise)

    def fill_row(self, batch: dict[str, Tensor], row: int, index: Index) -> None:
        """Decode, cut and normalise a sample directly into a row of a batch; other threads may fill other rows.

        Raises:
            DataError: a picture of the video is damaged or missing.
        """
        draw = self.draw(index)
        batch["label"][row] = draw.label
        for modality in self.sampling.modalities:
            self.fill(draw, modality, batch[modality][row])

    def fill(self, draw: Draw, modality: str, out: Tensor) -> None:
        """Decode, cut and normalise a sample's pictures of one modality.

        Args:
            draw: the sample.
            modality: "rgb" or "flow".
            out: (T, channels, size, size) float32, contiguous; written.

        Raises:
            DataError: a picture of the video is damaged or missing.
        """
        kind, _ = _KINDS[modality]
        size, channels = self.sampling.size, 3 if kind == RGB else 2  # u1, v1, u2, v2, ...
        pictures: Floats = out.numpy().reshape(-1, channels, size, size)
        blank = draw.noise[1] if draw.noise and draw.noise[0] == kind else None
        self._cut(draw.video, kind, draw.times[modality], draw.crop, pictures, blank, draw.colours)

    def _cut(
        self, video: StoredVideo, kind: int, times: Sequence[int], crop: Crop, out: Floats,
        blank: np.random.Generator | None, colours: Colours | None = None,
    ) -> None:  # fmt: skip
        """Cut the pictures of a kind at `times` into the rows of `out`; each distinct picture is decoded once.

        If the stream sees noise, `blank` draws it, also once for each distinct picture, and nothing is decoded.
        """
        rows: dict[int, list[int]] = {}
        for row, t in enumerate(times):
            rows.setdefault(t, []).append(row)
        cut = cut_field if kind == FLOW else partial(cut_frame, colours=colours)
        if blank and self.sampling.noise:
            for t in sorted(rows):
                self.sampling.noise.fill(out[rows[t][0]], blank)
        else:
            for t, picture in self.store.pictures(video.id, kind, sorted(rows)):
                cut(picture, crop, out[rows[t][0]])
        for first, *others in rows.values():
            for row in others:  # chunks that overlap
                out[row] = out[first]
