"""Numbers from scores, each with its 95 % interval."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, top_k_accuracy_score

from stmn.evaluation.scores import Scores

Floats = NDArray[np.float64]

#: resamples of a bootstrap
RESAMPLES = 2000
#: bins of the calibration error (Guo et al. 2017)
BINS = 15


def interval(right: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson's, which holds for few videos and for shares near 0 and 1)."""
    low, high = binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(low), float(high)


class Bootstrap:
    """Draws of the test videos with replacement: of whole groups where the videos have groups.

    Videos of one group are cuts of one recording: how one of them does says how the others do.
    """

    def __init__(self, scores: Scores, seed: int = 0) -> None:
        units = scores.groups if 1 < len(set(scores.groups)) < len(scores.ids) else scores.ids
        self.over = "groups" if units is scores.groups else "videos"
        names, unit = np.unique(units, return_inverse=True)
        self.units = len(names)
        drawn = np.random.default_rng(seed).multinomial(self.units, np.full(self.units, 1 / self.units), RESAMPLES)
        #: (RESAMPLES, N): how often each video is in each draw
        self.times: Floats = drawn[:, unit].astype(np.float64)

    def interval(self, values: Floats) -> list[float]:
        """The 95 % interval of the mean of (N,) values of the videos, each in 0..1.

        Where all draws agree (all videos right, for one) they say nothing: then it is Wilson's, of as many units.
        """
        means = self.times @ values / self.times.sum(axis=1)
        return self.spread(means, float(values.mean()))

    def class_interval(self, right: Floats, labels: NDArray[np.int64]) -> list[float]:
        """That of the mean over classes of the share of (N,) videos that are right; of the classes a draw has."""
        classes = np.eye(labels.max() + 1)[labels]  # (N, classes)
        there = self.times @ classes
        shares = np.divide(self.times * right @ classes, there, out=np.zeros_like(there), where=there > 0)
        means = shares.sum(axis=1) / (there > 0).sum(axis=1)
        return self.spread(means, float(right.mean()))

    def spread(self, means: Floats, value: float) -> list[float]:
        """The percentiles of the draws."""
        low, high = np.percentile(means, [2.5, 97.5])
        return [float(low), float(high)] if high > low else list(interval(round(value * self.units), self.units))


def measure(scores: Scores) -> dict[str, Any]:
    """All numbers of a scores file, shares in 0..1.

    `accuracy` (top-1), `top5`, `mean_class_accuracy` and `calibration_error` with their 95 % `intervals` (bootstrap
    over groups or videos, `intervals_over`); `streams`: each stream's accuracy alone; `per_class`: videos, share right
    with Wilson's interval; `confusion`: rows are true classes.
    """
    labels = np.array(scores.labels)
    mean = scores.mean().double().numpy()
    predicted = mean.argmax(axis=1)
    every = list(range(len(scores.classes)))
    right = (predicted == labels).astype(np.float64)
    few = len(every) <= 5
    in_top5 = np.ones(len(labels)) if few else hits(mean, labels, 5)
    draws = Bootstrap(scores)
    intervals = {
        "accuracy": draws.interval(right),
        "top5": [1.0, 1.0] if few else draws.interval(in_top5),
        "mean_class_accuracy": draws.class_interval(right, labels),
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
        "calibration_error": calibration_error(mean, right),
        "intervals": intervals,
        "intervals_over": draws.over,
        "streams": {
            name: float(accuracy_score(labels, tensor.numpy().argmax(axis=1)))
            for name, tensor in scores.streams.items()
        },
        "per_class": {name: class_result(right[labels == number]) for number, name in enumerate(scores.classes)},
        "confusion": confusion_matrix(labels, predicted, labels=every).tolist(),
        "classes": scores.classes,
    }


def hits(scores: Floats, labels: NDArray[np.int64], k: int) -> Floats:
    """(N,): 1 where fewer than `k` classes score higher than the true one."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    return ((scores > own).sum(axis=1) < k).astype(np.float64)


def class_result(right: Floats) -> dict[str, Any]:
    """How many test videos a class has and the share of them that is right; no share where it has none."""
    if not len(right):
        return {"videos": 0}
    return {
        "videos": len(right),
        "accuracy": float(right.mean()),
        "interval": list(interval(int(right.sum()), len(right))),
    }


def calibration_error(scores: Floats, right: Floats) -> float:
    """Expected calibration error: how far the soft-max of the best class is from the share that is right, in 0..1.

    The mean over `BINS` bins of equal width, each weighing as many videos as it holds (Guo et al. 2017).
    """
    confidence = softmax(scores, axis=1).max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(right))


def words(result: dict[str, Any]) -> str:
    """ "94.2 % [92.0, 95.8] of 600 videos"."""
    low, high = result["interval"]
    return f"{100 * result['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {result['videos']} videos"


def mean_of_splits(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean accuracy over splits, as the literature reports it, with a 95 % interval.

    From the splits' own intervals, as if their test videos were independent draws; where splits share videos, as
    HMDB51's do, it is too narrow.
    """
    share = [result["accuracy"] for result in results]
    halves = [(result["interval"][1] - result["interval"][0]) / 2 for result in results]
    mean, half = float(np.mean(share)), float(np.sqrt(np.sum(np.square(halves)))) / len(results)
    return {
        "accuracy": mean,
        "interval": [max(0.0, mean - half), min(1.0, mean + half)],
        "mean_class_accuracy": float(np.mean([result["mean_class_accuracy"] for result in results])),
        "top5": float(np.mean([result["top5"] for result in results])),
    }
