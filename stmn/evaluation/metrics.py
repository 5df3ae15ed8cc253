"""Numbers from scores, each with its 95 % interval."""

from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, top_k_accuracy_score

from stmn.evaluation.scores import Scores


def interval(right: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson's, which holds for few videos and for shares near 0 and 1)."""
    low, high = binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(low), float(high)


def measure(scores: Scores) -> dict[str, Any]:
    """Accuracies in 0..1: top-1 with its interval, top-5, mean over classes, each stream's; the confusion matrix
    (rows: true class) and the number of videos."""
    labels = np.array(scores.labels)
    mean = scores.mean().numpy()
    predicted = mean.argmax(axis=1)
    every = list(range(len(scores.classes)))
    low, high = interval(int((predicted == labels).sum()), len(labels))
    return {
        "videos": len(labels),
        "accuracy": float(accuracy_score(labels, predicted)),
        "interval": [low, high],
        "chance": 1 / len(every),
        "top5": float(top_k_accuracy_score(labels, mean, k=5, labels=every)) if len(every) > 5 else 1.0,
        "mean_class_accuracy": float(
            recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
        ),
        "streams": {
            name: float(accuracy_score(labels, tensor.numpy().argmax(axis=1)))
            for name, tensor in scores.streams.items()
        },
        "confusion": confusion_matrix(labels, predicted, labels=every).tolist(),
        "classes": scores.classes,
    }


def words(result: dict[str, Any]) -> str:
    """ "94.2 % [92.0, 95.8] of 600 videos"."""
    low, high = result["interval"]
    return f"{100 * result['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {result['videos']} videos"
