"""Mixup: each video of a group is averaged with another, and so are their labels (Zhang et al., ICLR 2018)."""

from collections.abc import Callable

import torch
from torch import Tensor

#: maps a batch to a batch: frames and flow keep their shapes, `label` is (B,) or shares of classes (B, classes)
Mixing = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def make_mixing(alpha: float, classes: int) -> Mixing:
    """Return mixup by torchvision's `MixUp`: x_i and y_i become c x_i + (1 - c) x_j and c y_i + (1 - c) y_j.

    The share c is drawn from Beta(alpha, alpha) for each group of a micro-batch, by torch's random generator; j is the
    video before i in the group. Frames and flow are mixed alike.

    Args:
        alpha: 0 mixes nothing.
        classes: number of classes.
    """
    if not alpha:
        return mix_nothing
    from torchvision.transforms.v2 import MixUp  # takes a second to import
    from torchvision.tv_tensors import Video

    mixup = MixUp(alpha=alpha, num_classes=classes, labels_getter=lambda batch: batch["label"])

    def mix(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        videos = {name: value if name == "label" else Video(value) for name, value in batch.items()}
        return {name: value.as_subclass(torch.Tensor) for name, value in mixup(videos).items()}

    return mix


def mix_nothing(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the batch unchanged."""
    return batch
