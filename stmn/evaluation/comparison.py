"""Two scores files beside each other, and the weights of a late fusion."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor
from torch.nn.functional import cross_entropy

from stmn.errors import DataError
from stmn.evaluation.metrics import Bootstrap
from stmn.evaluation.scores import Scores, fuse_late

#: steps of a weight between 0 and 1, by the number of scores that are fused
STEPS = {2: 20, 3: 10, 4: 6}


@dataclass(frozen=True)
class Comparison:
    """How two scores files do on the same videos: shares right, their difference with its 95 % interval (bootstrap).

    `flipped`: (video id, true class, what the first says, what the second says) where one alone is right. `p_value`:
    McNemar's exact test, the chance of so uneven a split of the flipped videos if both were equally good.
    """

    videos: int
    accuracies: tuple[float, float]
    difference: float
    interval: list[float]
    both_right: int
    both_wrong: int
    first_alone: int
    second_alone: int
    p_value: float
    flipped: list[tuple[str, str, str, str]]


def compare(first: Scores, second: Scores, name: str) -> Comparison:
    """Compare by video id. Raises `DataError` when `second`, called `name`, scores other videos or classes."""
    rows = second.rows(first.ids, first.classes, name)
    labels = np.array(first.labels)
    ours = first.mean().numpy().argmax(axis=1)
    theirs = torch.stack(list(rows.values())).mean(dim=0).numpy().argmax(axis=1)
    right, others = ours == labels, theirs == labels
    only, other = int((right & ~others).sum()), int((others & ~right).sum())
    gain = others.astype(float) - right
    draws = Bootstrap(first)
    means = draws.times @ gain / draws.times.sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    names = first.classes
    return Comparison(
        videos=len(labels),
        accuracies=(float(right.mean()), float(others.mean())),
        difference=float(gain.mean()),
        interval=[float(low), float(high)],
        both_right=int((right & others).sum()),
        both_wrong=int((~right & ~others).sum()),
        first_alone=only,
        second_alone=other,
        p_value=float(binomtest(only, only + other).pvalue) if only + other else 1.0,
        flipped=[
            (first.ids[i], names[labels[i]], names[ours[i]], names[theirs[i]]) for i in np.flatnonzero(right != others)
        ],
    )


def choose_weights(parts: Sequence[Scores], names: Sequence[str]) -> list[float]:
    """Weights of a late fusion under which these scores are right most often; of equals, of least cross-entropy.

    Tried on a grid; the weights add up to the number of parts. Raises `DataError` when the scores are of test videos,
    on which no choice may be made, or too many.
    """
    if len(parts) not in STEPS:
        raise DataError(f"weights are chosen for {min(STEPS)} to {max(STEPS)} scores, not {len(parts)}")
    for part, name in zip(parts, names, strict=True):
        if part.protocol.get("part", "test") == "test":
            raise DataError(
                f"{name}: scores of test videos; weights are chosen on others: stmn evaluate --part validation"
            )
    labels = torch.tensor(parts[0].labels)

    def merit(weights: list[float]) -> tuple[int, float]:
        mean: Tensor = fuse_late(parts, weights, names).mean()
        return int((mean.argmax(dim=1) == labels).sum()), -float(cross_entropy(mean, labels))

    return max(grid(len(parts), STEPS[len(parts)]), key=merit)


def grid(count: int, steps: int) -> Iterator[list[float]]:
    """All weights in steps that add up to `count`."""
    for shares in product(range(steps + 1), repeat=count - 1):
        if sum(shares) <= steps:
            yield [count * share / steps for share in (*shares, steps - sum(shares))]
