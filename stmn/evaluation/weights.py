"""Choose the weights of streams, or of a late fusion, on videos that are not tested with them."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import log

import torch
from torch import Tensor

from stmn.errors import DataError, count_of
from stmn.evaluation.agreement import align_scores
from stmn.evaluation.protocol import Average
from stmn.evaluation.scores import Scores, average_scores, check_average, weight_streams

#: number of scores -> steps of the grid of weights
_GRID_STEPS = {2: 20, 3: 10, 4: 6}
#: factors of averaged logits, from nearly uniform probabilities to twice the logits
_FACTORS = 2.0 ** torch.arange(-6, 1.5, 0.5)


def choose_weights(parts: Sequence[Scores], names: Sequence[str], average: Average = "logits") -> list[float]:
    """Choose the weights of a late fusion as `find_weights` does.

    Args:
        parts: 2 to 4 scores of the same videos.
        names: What error messages call them.
        average: What the fusion averages.

    Returns:
        One weight per part. They add up to the number of parts.

    Raises:
        DataError: There are too many scores, or they are of test videos, on which nothing may be chosen.
    """
    for part, name in zip(parts, names, strict=True):
        if part.protocol.get("part", "test") == "test":
            raise DataError(
                f"{name}: scores of test videos; weights are chosen on others: stmn evaluate MODEL --part validation"
            )
    check_average(parts, names, average)
    aligned = [align_scores(parts[0], part, name, names[0]) for part, name in zip(parts, names, strict=True)]
    return find_weights([part.mean() for part in aligned], torch.tensor(parts[0].labels), average)


def weight_folds(parts: Sequence[Scores], names: Sequence[str]) -> list[Scores]:
    """Weight the streams of each of several disjoint folds by the weights that suit the other folds' videos.

    The scores of another fold's videos come from a model that has not seen them in training, so a stream that only
    remembers its training videos scores badly on them. No score or label of a fold is used to choose its own weights.
    (Models of other folds were trained on its videos, but that does not reveal which weights suit them.)

    Args:
        parts: Two or more scores with the same streams, each of the videos of one fold.
        names: What error messages call them.

    Raises:
        DataError: There is one stream, or too many.
    """
    if len(parts[0].streams) == 1:
        raise DataError(f"{names[0]}: has one stream: there are no weights to choose")
    weighted = []
    for part in parts:
        others = [other for other in parts if other is not part]
        columns = zip(*(other.streams.values() for other in others), strict=True)
        labels = torch.tensor([label for other in others for label in other.labels])
        weights = find_weights([torch.cat(column) for column in columns], labels, part.average)
        weighted.append(weight_streams(part, weights, f"{count_of(len(labels), 'video')} of other folds"))
    return weighted


def find_weights(streams: Sequence[Tensor], labels: Tensor, average: Average = "logits") -> list[float]:
    """Return the most likely weights on a grid.

    This is logistic regression with one weight per stream: it maximises the likelihood of the labels under the softmax
    of the weighted mean times a factor, with the best factor for each choice of weights. Accuracy would be too coarse:
    with few videos, most weights give the same number of correct ones. The factor compensates for overconfident
    networks, such as those trained on few clips: without it, a stream of small logits would win whatever it knows.

    A penalty favours equal weights: to win against them, a single stream has to make the labels twice as likely.
    So a handful of videos can't move weights far.

    Args:
        streams: 2 to 4 tensors (N, classes).
        labels: (N,) class numbers.
        average: Average logits or probabilities.

    Returns:
        One weight per stream. They add up to the number of streams.

    Raises:
        DataError: There are too many streams.
    """
    if len(streams) not in _GRID_STEPS:
        raise DataError(
            f"weights are chosen for {min(_GRID_STEPS)} to {max(_GRID_STEPS)} scores files, not {len(streams)}"
        )
    streams = [stream.double() for stream in streams]
    count, rows = len(streams), torch.arange(len(labels))

    def cost(weights: list[float]) -> float:
        mean = average_scores(streams, weights, average)
        of_class = (_FACTORS * mean[:, :, None]).log_softmax(dim=1)  # (N, classes, factors)
        losses = -of_class[rows, labels].sum(dim=0)
        apart = sum((weight - 1) ** 2 for weight in weights) / (count * (count - 1))  # 1 for a single stream
        return float(losses.min()) + log(2) * apart

    return min(_weight_grid(count, _GRID_STEPS[count]), key=cost)


def _weight_grid(count: int, steps: int) -> Iterator[list[float]]:
    """All combinations of `count` weights in steps that add up to `count`."""
    for shares in product(range(steps + 1), repeat=count - 1):
        if sum(shares) <= steps:
            yield [count * share / steps for share in (*shares, steps - sum(shares))]
