"""Metrics of a scores file, each with its 95 % interval."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, top_k_accuracy_score

from stmn.evaluation.scores import Scores

FloatArray = NDArray[np.float64]

#: resamples of a bootstrap
RESAMPLES = 2000
#: bins of the calibration error (Guo et al. 2017)
BINS = 15


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of `correct` / `count`, which holds for few videos and for ratios near 0 and 1."""
    low, high = binomtest(correct, count).proportion_ci(0.95, "wilson")
    return float(low), float(high)


class Bootstrap:
    """Resamples of the test videos with replacement; of whole groups if the videos have groups.

    The videos of a group are cut from one recording, so they are not independent.

    Args:
        scores: The scores of N videos.
        seed: The seed of the draws.

    Attributes:
        over: "groups" or "videos".
        counts: (RESAMPLES, N), how often each video is in each resample.
    """

    def __init__(self, scores: Scores, seed: int = 0) -> None:
        units = scores.groups if 1 < len(set(scores.groups)) < len(scores.ids) else scores.ids
        self.over = "groups" if units is scores.groups else "videos"
        names, unit = np.unique(units, return_inverse=True)
        self._units = len(names)
        drawn = np.random.default_rng(seed).multinomial(self._units, np.full(self._units, 1 / self._units), RESAMPLES)
        self.counts: FloatArray = drawn[:, unit].astype(np.float64)

    def interval(self, values: FloatArray) -> list[float]:
        """The 95 % interval of the mean of (N,) values in 0..1.

        If all resamples agree, as when all videos are correct, it is Wilson's interval of as many units.
        """
        means = self.counts @ values / self.counts.sum(axis=1)
        return self._percentiles(means, float(values.mean()))

    def class_interval(self, correct: FloatArray, labels: NDArray[np.int64]) -> list[float]:
        """The 95 % interval of the mean over classes of each class's accuracy, from (N,) values 0 or 1.

        Classes that are missing from a resample do not count in it.
        """
        classes = np.eye(labels.max() + 1)[labels]  # (N, classes)
        videos = self.counts @ classes
        accuracies = np.divide(self.counts * correct @ classes, videos, out=np.zeros_like(videos), where=videos > 0)
        means = accuracies.sum(axis=1) / (videos > 0).sum(axis=1)
        return self._percentiles(means, float(correct.mean()))

    def _percentiles(self, means: FloatArray, value: float) -> list[float]:
        """The interval that holds 95 % of the resamples."""
        low, high = np.percentile(means, [2.5, 97.5])
        return (
            [float(low), float(high)] if high > low else list(wilson_interval(round(value * self._units), self._units))
        )


def measure(scores: Scores) -> dict[str, Any]:
    """Compute all metrics of a scores file.

    Returns:
        Ratios in 0..1:

        - `videos`, `classes`, `chance`
        - `accuracy` (top-1), `top5`, `mean_class_accuracy`, `calibration_error`
        - `intervals`: the 95 % bootstrap intervals of the first three; `intervals_over`: "groups" or "videos";
          `interval`: that of the accuracy
        - `streams`: the accuracy of each stream alone
        - `per_class`: videos, accuracy and Wilson's interval of each class
        - `confusion`: counts; rows are true classes, columns predictions
    """
    labels = np.array(scores.labels)
    mean = scores.mean().double().numpy()
    predicted = mean.argmax(axis=1)
    every = list(range(len(scores.classes)))
    correct = (predicted == labels).astype(np.float64)
    few = len(every) <= 5
    in_top5 = np.ones(len(labels)) if few else _in_top(mean, labels, 5)
    draws = Bootstrap(scores)
    intervals = {
        "accuracy": draws.interval(correct),
        "top5": [1.0, 1.0] if few else draws.interval(in_top5),
        "mean_class_accuracy": draws.class_interval(correct, labels),
    }
    return {
        "videos": len(labels),
        "accuracy": float(accuracy_score(labels, predicted)),
        "interval": intervals["accuracy"],
        "chance": 1 / len(every),
        "top5": 1.0 if few else float(top_k_accuracy_score(labels, mean, k=5, labels=every)),
        "mean_class_accuracy": float(
            recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
        ),
        "calibration_error": calibration_error(mean, correct),
        "intervals": intervals,
        "intervals_over": draws.over,
        "streams": {
            name: float(accuracy_score(labels, tensor.numpy().argmax(axis=1)))
            for name, tensor in scores.streams.items()
        },
        "per_class": {name: _measure_class(correct[labels == number]) for number, name in enumerate(scores.classes)},
        "confusion": confusion_matrix(labels, predicted, labels=every).tolist(),
        "classes": scores.classes,
    }


def calibration_error(logits: FloatArray, correct: FloatArray) -> float:
    """Expected calibration error, 0..1: how far the confidence of predictions is from their accuracy.

    The confidence is the soft-max of the best class. The error is the mean over `BINS` bins of equal width, weighted by
    the number of videos in each (Guo et al. 2017).

    Args:
        logits: (N, classes).
        correct: (N,) 1 if the prediction is correct, else 0.
    """
    confidence = softmax(logits, axis=1).max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(correct))


def describe_accuracy(result: dict[str, Any]) -> str:
    """Put the accuracy in words: "94.2 % [92.0, 95.8] of 600 videos"."""
    low, high = result["interval"]
    return f"{100 * result['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {result['videos']} videos"


def average_splits(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Average the metrics of several splits, as the literature reports them.

    The 95 % interval follows from the splits' own, as if their test videos were independent. If the splits share
    videos, as HMDB51's do, it is too narrow.

    Args:
        results: The `measure` of each split.

    Returns:
        `accuracy` and its `interval`, `mean_class_accuracy` and `top5`.
    """
    accuracies = [result["accuracy"] for result in results]
    halves = [(result["interval"][1] - result["interval"][0]) / 2 for result in results]
    mean, half = float(np.mean(accuracies)), float(np.sqrt(np.sum(np.square(halves)))) / len(results)
    return {
        "accuracy": mean,
        "interval": [max(0.0, mean - half), min(1.0, mean + half)],
        "mean_class_accuracy": float(np.mean([result["mean_class_accuracy"] for result in results])),
        "top5": float(np.mean([result["top5"] for result in results])),
    }


def _in_top(scores: FloatArray, labels: NDArray[np.int64], k: int) -> FloatArray:
    """(N,): 1 if fewer than `k` classes score higher than the true one."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    in_top: FloatArray = ((scores > own).sum(axis=1) < k).astype(np.float64)
    return in_top


def _measure_class(correct: FloatArray) -> dict[str, Any]:
    """The videos and accuracy of one class; no accuracy if it has no videos."""
    if not len(correct):
        return {"videos": 0}
    return {
        "videos": len(correct),
        "accuracy": float(correct.mean()),
        "interval": list(wilson_interval(int(correct.sum()), len(correct))),
    }
