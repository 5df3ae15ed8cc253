"""Training samples: what a step sees is a function of (seed, epoch, video) alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stmn.sampling.augment import Augmentation, cut, draw_crop, normalise_flow, normalise_rgb
from stmn.sampling.positions import stack_times, test_positions, training_positions
from stmn.store.reader import Store, StoredVideo


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


class Clips(Dataset[dict[str, Tensor]]):
    """Samples of a list of videos. An index is (epoch, video number); epoch -1 is the plain centre sample."""

    def __init__(self, store: Store, videos: Sequence[StoredVideo], sampling: Sampling) -> None:
        self.store, self.videos, self.sampling = store, list(videos), sampling
        self.classes = {name: number for number, name in enumerate(store.header.classes)}

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Tensor]:
        """`rgb` (T, 3, size, size) and/or `flow` (T, 2L, size, size), float; `label` ()."""
        epoch, number = index
        video, sampling = self.videos[number], self.sampling
        rng = None if epoch < 0 else np.random.default_rng([sampling.seed, epoch, number])
        if rng is None:
            times = test_positions(video.frames, sampling.stack_length, sampling.chunks)
            times = [times[i * len(times) // sampling.chunks] for i in range(sampling.chunks)]
        else:
            times = training_positions(video.frames, sampling.stack_length, sampling.chunks, sampling.stride, rng)
        crop = draw_crop(video.height, video.width, sampling.augmentation, self.store.header.keeps, rng)
        sample = {"label": torch.tensor(self.classes[video.class_name])}
        if "rgb" in sampling.modalities:
            sample["rgb"] = normalise_rgb(cut(self.store.frames(video.id, times), crop, sampling.size))
        if "flow" in sampling.modalities:
            stacks = [stack_times(t, video.frames, sampling.stack_length) for t in times]
            needed = sorted({i for stack in stacks for i in stack})
            fields = normalise_flow(cut(self.store.fields(video.id, needed), crop, sampling.size), crop.mirror)
            rows = [[needed.index(i) for i in stack] for stack in stacks]
            sample["flow"] = fields[torch.tensor(rows)].flatten(1, 2)  # u1, v1, u2, v2, ...
        return sample


def sample_order(count: int, seed: int, first: int, length: int) -> list[tuple[int, int]]:
    """Items `first` ... `first + length - 1` of the endless stream of shuffled passes: (epoch, video number) each."""
    order: list[tuple[int, int]] = []
    for epoch in range(first // count, (first + length - 1) // count + 1):
        numbers = np.random.default_rng([seed, epoch]).permutation(count)
        order += [(epoch, int(number)) for number in numbers]
    skip = first - (first // count) * count
    return order[skip : skip + length]


class MicroBatches:
    """The micro-batches of steps `start` ... `steps - 1`, each a list of indices; a batch sampler."""

    def __init__(self, count: int, batch: int, micro_batch: int, seed: int, start: int, steps: int) -> None:
        self.count, self.batch, self.micro_batch, self.seed = count, batch, micro_batch, seed
        self.start, self.steps = start, steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.steps):
            order = sample_order(self.count, self.seed, step * self.batch, self.batch)
            for first in range(0, self.batch, self.micro_batch):
                yield order[first : first + self.micro_batch]


def loader(clips: Clips, batches: MicroBatches | list[list[tuple[int, int]]], processes: int) -> DataLoader:
    """Batches {rgb (B, T, 3, H, W), flow (B, T, 2L, H, W), label (B,)}, made by `processes` other processes."""
    return DataLoader(
        clips,
        batch_sampler=batches,
        num_workers=processes,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="forkserver" if processes else None,
    )


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
