"""Training samples: what a step sees is a function of (seed, epoch, video) alone."""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor

from stmn.sampling.augment import Augmentation, Crop, cut_field, cut_frame, draw_crop
from stmn.sampling.positions import draw_positions, spread_positions, stack_times
from stmn.sampling.resample import Floats
from stmn.store.format.read import Store, StoredVideo
from stmn.store.format.shard import FLOW, RGB

#: (epoch, video number) of a sample, or (epoch, video number, temporal stride)
Index = tuple[int, int] | tuple[int, int, int]


@dataclass(frozen=True)
class Sampling:
    """What is drawn from a video: `chunks` chunks at a stride, a crop of a kind, resized to `size` pixels."""

    modalities: tuple[str, ...]
    size: int
    stack_length: int
    chunks: int = 1
    stride: tuple[int, int] = (5, 35)
    augmentation: Augmentation = "jitter"
    seed: int = 0


class Clips:
    """Samples of a list of videos. An index is (epoch, video number); epoch -1 is the plain centre sample.

    A third number in an index is the temporal stride, in place of one drawn for the video.
    """

    def __init__(self, store: Store, videos: Sequence[StoredVideo], sampling: Sampling) -> None:
        self.store, self.videos, self.sampling = store, list(videos), sampling
        self.classes = {name: number for number, name in enumerate(store.header.classes)}

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: Index) -> dict[str, Tensor]:
        """`rgb` (T, 3, size, size) and/or `flow` (T, 2L, size, size), float32; `label` ()."""
        batch = self.empty(1)
        self.fill(batch, 0, index)
        return {name: values[0] for name, values in batch.items()}

    def empty(self, count: int, memory: "BufferPool | None" = None) -> dict[str, Tensor]:
        """Room for a batch of `count` samples, its values yet unset; in pinned memory where there is a CUDA device."""
        chunks, size = self.sampling.chunks, self.sampling.size
        planes = {"rgb": 3, "flow": 2 * self.sampling.stack_length}
        shapes = {name: (count, chunks, planes[name], size, size) for name in self.sampling.modalities}
        if torch.cuda.is_available():  # torch keeps pinned memory for the next batch by itself
            batch = {name: torch.empty(shape, pin_memory=True) for name, shape in shapes.items()}
        else:
            memory = memory or BufferPool(0)
            batch = {name: torch.from_numpy(memory.array(shape)) for name, shape in shapes.items()}
        return batch | {"label": torch.empty(count, dtype=torch.long)}

    def fill(self, batch: dict[str, Tensor], row: int, index: Index) -> None:
        """Put a sample in a row of a batch: decoded, cut and normalised where it stays. Threads may fill other rows."""
        epoch, number, *given = index
        video, sampling = self.videos[number], self.sampling
        rng = None if epoch < 0 else np.random.default_rng([sampling.seed, epoch, number])
        if rng is None:
            times = spread_positions(video.frames, sampling.stack_length, sampling.chunks)
            times = [times[i * len(times) // sampling.chunks] for i in range(sampling.chunks)]
        else:
            stride = (given[0], given[0]) if given else sampling.stride
            times = draw_positions(video.frames, sampling.stack_length, sampling.chunks, stride, rng)
        crop = draw_crop(video.height, video.width, sampling.augmentation, self.store.header.keeps, rng)
        batch["label"][row] = self.classes[video.class_name]
        if "rgb" in sampling.modalities:
            frames = batch["rgb"][row].numpy()
            self.cut(video, RGB, times, crop, frames)
        if "flow" in sampling.modalities:
            stacks = [t for chunk in times for t in stack_times(chunk, video.frames, sampling.stack_length)]
            fields = batch["flow"][row].numpy().reshape(-1, 2, sampling.size, sampling.size)  # u1, v1, u2, v2, ...
            self.cut(video, FLOW, stacks, crop, fields)

    def cut(self, video: StoredVideo, kind: int, times: Sequence[int], crop: Crop, out: Floats) -> None:
        """Cut the pictures of a kind at `times` into the rows of `out`, each distinct one once."""
        rows: dict[int, list[int]] = {}
        for row, t in enumerate(times):
            rows.setdefault(t, []).append(row)
        cut = cut_frame if kind == RGB else cut_field
        for t, picture in self.store.pictures(video.id, kind, sorted(rows)):
            first, *others = rows[t]
            cut(picture, crop, out[first])
            for row in others:  # chunks that overlap
                out[row] = out[first]


class BufferPool:
    """Arrays for batches, used again once no tensor lies in them: fresh memory costs a large batch a third more.

    NumPy's, not torch's: NumPy asks the system for huge pages.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.lent: list[tuple[Floats, weakref.ref[Floats]]] = []

    def array(self, shape: tuple[int, ...]) -> Floats:
        """An array of that shape, its values unset; at most `most` are kept for later."""
        for number, (array, borrower) in enumerate(self.lent):
            if array.shape == shape and borrower() is None:
                del self.lent[number]
                break
        else:
            array = np.empty(shape, np.float32)
        view = array[:]  # a tensor made of it lives as long as the tensor's memory does
        self.lent = [*self.lent, (array, weakref.ref(view))][-self.most :] if self.most else []
        return view


def sample_order(count: int, seed: int, first: int, length: int) -> list[tuple[int, int]]:
    """Items `first` ... `first + length - 1` of the endless stream of shuffled passes: (epoch, video number) each."""
    order: list[tuple[int, int]] = []
    for epoch in range(first // count, (first + length - 1) // count + 1):
        numbers = np.random.default_rng([seed, epoch]).permutation(count)
        order += [(epoch, int(number)) for number in numbers]
    skip = first - (first // count) * count
    return order[skip : skip + length]


class MicroBatches:
    """The micro-batches of steps `start` ... `steps - 1`, each a list of indices; a batch sampler.

    `numbers`: which micro-batches of each step (default: all; processes that train together share them out).
    `stride`: a range that one temporal stride is drawn from for each micro-batch (default: one for each video).
    """

    def __init__(
        self, count: int, batch: int, micro_batch: int, seed: int, start: int, steps: int,
        numbers: range | None = None, stride: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.count, self.batch, self.micro_batch, self.seed = count, batch, micro_batch, seed
        self.start, self.steps, self.stride = start, steps, stride
        self.numbers = range(ceil(batch / micro_batch)) if numbers is None else numbers

    def __iter__(self) -> Iterator[list[Index]]:
        for step in range(self.start, self.steps):
            order = sample_order(self.count, self.seed, step * self.batch, self.batch)
            for number in self.numbers:
                indices = order[number * self.micro_batch : (number + 1) * self.micro_batch]
                if self.stride is None:
                    yield list[Index](indices)
                else:
                    rng = np.random.default_rng([self.seed, step, number])
                    drawn = int(rng.integers(self.stride[0], self.stride[1] + 1))
                    yield [(epoch, video, drawn) for epoch, video in indices]


def split_validation(
    videos: Sequence[StoredVideo], share: float, seed: int
) -> tuple[list[StoredVideo], list[StoredVideo]]:
    """(training, validation): about `share` of the training groups are held out; no group is on both sides."""
    if share <= 0:
        return list(videos), []
    from sklearn.model_selection import GroupShuffleSplit

    groups = [f"{video.class_name}/{video.group or video.id}" for video in videos]
    if len(set(groups)) < 2:
        return list(videos), []
    kept, held = next(GroupShuffleSplit(1, test_size=share, random_state=seed).split(groups, groups=groups))
    return [videos[i] for i in kept], [videos[i] for i in held]
