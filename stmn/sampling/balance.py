"""Class imbalance: training videos per class, and an order that shows each class equally often."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

#: a notice is printed if the largest class has at least this many times the videos of the smallest
_UNEQUAL = 2


def balanced_order(labels: Sequence[int], seed: int, first: int, length: int) -> list[tuple[int, int]]:
    """Return a section of an endless stream of samples in which each class comes equally often.

    The stream is made of rounds, each with one video of every class in random order. The videos of a class come in
    shuffled passes, so each is seen once before any is seen again. Classes without videos are left out.

    Args:
        labels: the class number of each video.
        seed: shuffles rounds and passes.
        first: the first sample of the section.
        length: the number of samples in it.

    Returns:
        (epoch, video number) of each sample; here an epoch is a pass over the video's own class.
    """
    videos: dict[int, list[int]] = {label: [] for label in sorted(set(labels))}
    for number, label in enumerate(labels):
        videos[label].append(number)
    present = list(videos)
    order: list[tuple[int, int]] = []
    # seeds of four numbers keep these draws independent of those of crops, whose seeds have three
    for turn in range(first // len(present), (first + length - 1) // len(present) + 1):
        for place in np.random.default_rng([seed, turn, 0, 1]).permutation(len(present)):
            label = present[place]
            epoch, index = divmod(turn, len(videos[label]))
            shuffled = np.random.default_rng([seed, epoch, label, 2]).permutation(len(videos[label]))
            order.append((epoch, videos[label][int(shuffled[index])]))
    skip = first % len(present)
    return order[skip : skip + length]


def describe_imbalance(
    classes: Sequence[str], labels: Sequence[int], balanced: bool = False, weighted: bool = False
) -> str:
    """Return a line about classes of unequal size or without videos; empty if there is nothing to say.

    Args:
        classes: all class names.
        labels: the class number of each training video.
        balanced: each class is shown equally often.
        weighted: the loss weighs each class equally.
    """
    counts = Counter(labels)
    if not counts:
        return ""
    missing = [f"'{name}'" for number, name in enumerate(classes) if number not in counts]
    (largest, most), *_, (smallest, fewest) = [*counts.most_common(), *counts.most_common()[-1:]]
    parts = []
    if most >= _UNEQUAL * fewest:
        remedy = "--balance shows each class equally often, --class-weights lets each count equally in the loss"
        if balanced or weighted:
            remedy = "each class is shown equally often" if balanced else "each class counts equally in the loss"
        parts.append(f"{most} of '{classes[largest]}', {fewest} of '{classes[smallest]}' ({remedy})")
    if missing:
        more = f" and {len(missing) - 5} more classes" if len(missing) > 5 else ""
        parts.append(f"none of {', '.join(missing[:5])}{more} (nothing to learn from)")
    return f"training videos per class: {'; '.join(parts)}" if parts else ""
