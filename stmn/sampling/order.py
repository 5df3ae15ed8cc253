"""The videos that a step sees: a function of the seed and the step."""

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np

from stmn.sampling.balance import balanced_order

#: (epoch, video number) of a sample, or (epoch, video number, temporal stride)
Index = tuple[int, int] | tuple[int, int, int]


def sample_order(
    count: int, seed: int, first: int, length: int, labels: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """Return a section of the endless stream of shuffled passes over the videos, or of `balanced_order`.

    Args:
        count: number of videos.
        seed: shuffles them, each pass in another order.
        first: the first sample of the section.
        length: the number of samples in it.
        labels: class number of each video, to show each class equally often.

    Returns:
        (epoch, video number) of each sample.
    """
    if labels is not None:
        return balanced_order(labels, seed, first, length)
    order: list[tuple[int, int]] = []
    for epoch in range(first // count, (first + length - 1) // count + 1):
        numbers = np.random.default_rng([seed, epoch]).permutation(count)
        order += [(epoch, int(number)) for number in numbers]
    skip = first - (first // count) * count
    return order[skip : skip + length]


class MicroBatches:
    """A batch sampler: the micro-batches of steps `start` ... `steps - 1`, each a list of indices.

    Args:
        count: number of videos.
        batch: videos per step.
        micro_batch: videos per micro-batch.
        seed: seed of the order and the strides.
        start: the first step.
        steps: the step after the last one.
        numbers: the micro-batches of each step to yield; processes that train together share them. Default: all.
        stride: range of frames from which one temporal stride per group is drawn. Default: none is drawn here.
        labels: class number of each video, to show each class equally often. Default: show each video equally often.
        group: videos per group; micro-batches consist of groups. Default: a micro-batch is one group.
    """

    def __init__(
        self, count: int, batch: int, micro_batch: int, seed: int, start: int, steps: int,
        numbers: range | None = None, stride: tuple[int, int] | None = None, labels: Sequence[int] | None = None,
        group: int | None = None,
    ) -> None:  # fmt: skip
        self.count, self.batch, self.micro_batch, self.seed = count, batch, micro_batch, seed
        self.start, self.steps, self.stride, self.labels = start, steps, stride, labels
        self.numbers = range(ceil(batch / micro_batch)) if numbers is None else numbers
        self.group = group or micro_batch

    def __iter__(self) -> Iterator[list[Index]]:
        for step in range(self.start, self.steps):
            order = sample_order(self.count, self.seed, step * self.batch, self.batch, self.labels)
            for number in self.numbers:
                indices = order[number * self.micro_batch : (number + 1) * self.micro_batch]
                if self.stride is None:
                    yield list[Index](indices)
                else:
                    first = number * self.micro_batch
                    groups = [self._draw_stride(step, (first + i) // self.group) for i in range(len(indices))]
                    yield [(*index, drawn) for index, drawn in zip(indices, groups, strict=True)]

    def _draw_stride(self, step: int, group: int) -> int:
        """Draw the stride of a group of a step."""
        assert self.stride is not None
        return int(np.random.default_rng([self.seed, step, group]).integers(self.stride[0], self.stride[1] + 1))
