"""Metrics of a scores file, each with its 95 % interval, and notes on what they can't show."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from stmn.errors import count_of
from stmn.evaluation.intervals import (
    FloatArray,
    Units,
    accuracy_interval,
    class_mean_influence,
    share_interval,
)
from stmn.evaluation.kinds import holds_logits
from stmn.evaluation.scores import Scores
from stmn.evaluation.temperature import cross_fit

#: bins of the calibration error (Guo et al. 2017)
BINS = 15
#: the largest class is named if its share is this many times 1 / classes, and this much above it
_TIMES_CHANCE, _ABOVE_CHANCE = 1.2, 0.02
#: with this many classes or fewer, the true class is always among the top five
TOP = 5


def measure(scores: Scores) -> dict[str, Any]:
    """Compute all metrics of a scores file.

    If several classes share the highest score, the first in the list of classes is the prediction.

    Returns:
        Ratios in 0..1:

        - `videos`, `classes`, `chance`
        - `accuracy` (top-1), `mean_class_accuracy` over the classes that have videos
        - `top5`: None for five classes or fewer, where it is always 1
        - `calibration_error`: None unless the scores are a network's logits (`holds_logits`)
        - `temperature`, `calibration_error_after`: the model's own temperature and the error with it; for a model
          without one, the median of temperatures fitted on the videos of other groups, and the error with these
        - `intervals`: the 95 % intervals of accuracy, top-5 and class mean; `interval`: that of the accuracy
        - `intervals_over`: "groups" or "videos"; `units`: their number
        - `streams`: the accuracy of each stream alone; `stream_intervals`: their intervals
        - `per_class`: videos, accuracy and interval of each class
        - `confusion`: counts; rows are true classes, columns predictions
        - `notes`: sentences on what these numbers can't show
    """
    labels = np.array(scores.labels)
    mean = scores.mean().double().numpy()
    classes, units = len(scores.classes), Units(scores.groups)
    correct = find_correct(mean, labels)
    in_top = _in_top(mean, labels, TOP) if classes > TOP else None
    streams = {name: find_correct(tensor.numpy(), labels) for name, tensor in scores.streams.items()}
    per_class = {
        name: _measure_class(
            correct[labels == number], [scores.groups[row] for row in np.flatnonzero(labels == number)]
        )
        for number, name in enumerate(scores.classes)
    }
    class_mean = float(np.mean([found["accuracy"] for found in per_class.values() if found["videos"]]))
    intervals = {
        "accuracy": accuracy_interval(correct, units),
        "top5": None if in_top is None else accuracy_interval(in_top, units),
        "mean_class_accuracy": share_interval(class_mean, class_mean_influence(correct, labels, units), units),
    }
    result = {
        "videos": len(labels),
        "accuracy": float(correct.mean()),
        "interval": intervals["accuracy"],
        "chance": 1 / classes,
        "top5": None if in_top is None else float(in_top.mean()),
        "mean_class_accuracy": class_mean,
        **_measure_calibration(mean, correct, scores),
        "intervals": intervals,
        "intervals_over": units.over,
        "units": units.count,
        "streams": {name: float(found.mean()) for name, found in streams.items()},
        "stream_intervals": {name: accuracy_interval(found, units) for name, found in streams.items()},
        "per_class": per_class,
        "confusion": _count_confusions(labels, mean.argmax(axis=1), classes),
        "classes": scores.classes,
    }
    return result | {"notes": list(_find_notes(result, mean, units))}


def find_correct(scores: NDArray[Any], labels: NDArray[np.int64]) -> FloatArray:
    """Return (N,): 1 where the true class has the highest of (N, classes) scores, else 0; of ties the first wins."""
    correct: FloatArray = (scores.argmax(axis=1) == labels).astype(np.float64)
    return correct


def calibration_error(logits: FloatArray, correct: FloatArray) -> float:
    """Return the expected calibration error, 0..1: how far the confidence of predictions is from their accuracy.

    The confidence is the softmax probability of the predicted class. The error is the mean over `BINS` bins of equal
    width, weighted by the number of videos in each (Guo et al. 2017, eq. (3)).

    Args:
        logits: (N, classes).
        correct: (N,) 1 if the prediction is correct, else 0.
    """
    confidence = softmax(logits, axis=1).max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(correct))


def _measure_calibration(mean: FloatArray, correct: FloatArray, scores: Scores) -> dict[str, Any]:
    """Return the calibration error without and with a temperature, and the temperature; None where unavailable."""
    if not holds_logits(scores.protocol):
        return {"calibration_error": None, "temperature": None, "calibration_error_after": None}
    own = scores.protocol.get("temperature")
    found = own or cross_fit(mean, np.array(scores.labels), scores.groups)
    after = None if found is None else calibration_error(mean / np.reshape(found, (-1, 1)), correct)
    return {
        "calibration_error": calibration_error(mean, correct),
        "temperature": None if found is None else float(np.median(found)),
        "calibration_error_after": after,
    }


def describe_calibration(result: dict[str, Any], own: bool) -> str:
    """Put the calibration error in words; "" if there is none.

    Args:
        result: what `measure` returned.
        own: True if the temperature is the model's own.
    """
    if result["calibration_error"] is None or result["calibration_error_after"] is None:
        return ""
    whose = "the model's" if own else "fitted on other groups; stmn calibrate gives the model one"
    return (
        f"calibration error {100 * result['calibration_error']:.1f} %, {100 * result['calibration_error_after']:.1f} % "
        f"after division by a temperature of {result['temperature']:.2f} ({whose})"
    )


def describe_accuracy(result: dict[str, Any]) -> str:
    """Put the accuracy in words: "94.2 % [92.0, 95.8] of 600 videos", or "... of 600 videos in 12 groups"."""
    low, high = result["interval"]
    share = (
        f"{100 * result['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {count_of(result['videos'], 'video')}"
    )
    return share if result["intervals_over"] == "videos" else f"{share} in {describe_units(result)}"


def describe_units(result: dict[str, Any]) -> str:
    """Put in words what a result's intervals are over: "12 groups", "600 videos"."""
    return count_of(result["units"], result["intervals_over"][:-1])


def average_splits(parts: Sequence[Scores]) -> dict[str, Any]:
    """Average the metrics of several splits, as the literature reports them.

    A video or group that several splits test is one unit in the interval of the mean, because its results are related.

    Args:
        parts: The scores of each split.

    Returns:
        `accuracy` and its `interval`, `intervals_over` and `units`, `mean_class_accuracy` and `top5`.
    """
    results = [measure(part) for part in parts]
    groups = [group for part in parts for group in part.groups]
    units = Units(groups, ids=[video for part in parts for video in part.ids])
    influence = []
    for part, result in zip(parts, results, strict=True):
        correct = find_correct(part.mean().double().numpy(), np.array(part.labels))
        influence.append((correct - result["accuracy"]) / len(correct) / len(parts))
    mean = float(np.mean([result["accuracy"] for result in results]))
    return {
        "accuracy": mean,
        "interval": share_interval(mean, np.concatenate(influence), units),
        "intervals_over": units.over,
        "units": units.count,
        "mean_class_accuracy": float(np.mean([result["mean_class_accuracy"] for result in results])),
        "top5": None if results[0]["top5"] is None else float(np.mean([result["top5"] for result in results])),
    }


def find_large_class(videos: Mapping[str, int]) -> tuple[str, float] | None:
    """Return the largest class and its share of the videos, 0..1; None unless that is clearly above chance.

    Args:
        videos: the number of videos of each class.
    """
    name = max(videos, key=lambda name: videos[name])
    share = videos[name] / sum(videos.values())
    chance = 1 / len(videos)
    return (name, share) if share >= max(_TIMES_CHANCE * chance, chance + _ABOVE_CHANCE) else None


def _find_notes(result: dict[str, Any], mean: FloatArray, units: Units) -> Iterator[str]:
    """Yield notes on what the numbers can't show."""
    if units.over == "groups" and units.count == 1:
        yield "All videos are of one group, which says nothing of others: no interval can be given."
    elif units.few:
        yield f"{units.few} too few to say how much groups differ, so the intervals are wide."
    counts = {name: found["videos"] for name, found in result["per_class"].items()}
    missing = [name for name, count in counts.items() if not count]
    if len(missing) == len(counts) - 1:
        only = next(name for name, count in counts.items() if count)
        yield f"All videos are of one class, {only}: a classifier that always names it has 100 %."
    elif largest := find_large_class(counts):
        name, share = largest
        yield f"Always predicting '{name}', the largest class, has {100 * share:.1f} %, above chance."
    if 0 < len(missing) < len(counts) - 1:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        yield (
            f"The mean over classes leaves out the {count_of(len(missing), 'class', 'classes')} without videos, of "
            f"{len(counts):,}: {shown}."
        )
    best = mean.max(axis=1, keepdims=True)
    if ties := int(((mean == best).sum(axis=1) > 1).sum()):
        yield (
            f"{count_of(ties, 'video has', 'videos have')} several classes with the highest score; the first in the "
            f"list was taken."
        )


def _count_confusions(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Counts; rows are true classes, columns predictions."""
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    found: list[list[int]] = counts.reshape(classes, classes).tolist()
    return found


def _in_top(scores: FloatArray, labels: NDArray[np.int64], k: int) -> FloatArray:
    """Return (N,): 1 if the true class is among the `k` highest; of equal scores the first in the list ranks higher."""
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    in_top: FloatArray = (ranked == labels[:, None]).any(axis=1).astype(np.float64)
    return in_top


def _measure_class(correct: FloatArray, groups: Sequence[str]) -> dict[str, Any]:
    """The videos and accuracy of one class; no accuracy if it has no videos."""
    if not len(correct):
        return {"videos": 0}
    return {
        "videos": len(correct),
        "accuracy": float(correct.mean()),
        "interval": accuracy_interval(correct, Units(groups)),
    }
