"""The accuracy of a classifier that sees only the frame size and length of a video.

Data sets of clips cut out by hand may leak the class through the cut. An accuracy means little unless it is clearly
above this baseline.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from stmn.evaluation.intervals import Units, accuracy_interval
from stmn.evaluation.metrics import find_correct
from stmn.evaluation.paired import PairedTest, compare_pairs
from stmn.evaluation.scores import Scores
from stmn.store.format.read import Store, StoredVideo


def measure_box_shape_baseline(store: Store, split: str, seed: int = 0) -> dict[str, Any] | None:
    """Train and test a random forest on the width, height, aspect and frame count of a split's videos.

    Args:
        store: The prepared data set.
        split: The split.
        seed: The seed of the forest.

    Returns:
        `videos`, `accuracy` in 0..1 and its 95 % `interval`, and `predictions` (video id -> class); None if all
        training videos have the same shape and length, so that nothing can leak.
    """
    train, test = store.part(split, "train"), store.part(split, "test")
    shapes = _describe_shapes(train), _describe_shapes(test)
    if len(set(shapes[0])) == 1:
        return None
    predicted = _predict(shapes[0], tuple(video.class_name for video in train), shapes[1], seed)
    correct = np.array([float(name == video.class_name) for name, video in zip(predicted, test, strict=True)])
    return {
        "videos": len(test),
        "accuracy": float(correct.mean()),
        "interval": accuracy_interval(correct, Units([video.group or video.id for video in test])),
        "predictions": {video.id: name for name, video in zip(predicted, test, strict=True)},
    }


def measure_folds_baseline(store: Store, splits: Sequence[str], scores: Scores, seed: int = 0) -> dict[str, Any] | None:
    """Measure the baseline of each of several disjoint folds, and report them as one list of videos.

    Args:
        store: The prepared data set.
        splits: The folds.
        scores: Scores of the test videos of all folds.
        seed: The seed of the forests.

    Returns:
        As `measure_box_shape_baseline`; None if a fold has none.
    """
    parts = [measure_box_shape_baseline(store, split, seed) for split in splits]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    predictions = {video: name for part in found for video, name in part["predictions"].items()}
    named = zip(scores.ids, scores.labels, strict=True)
    correct = np.array([float(predictions.get(video) == scores.classes[label]) for video, label in named])
    return {
        "videos": len(correct),
        "accuracy": float(correct.mean()),
        "interval": accuracy_interval(correct, Units(scores.groups)),
        "predictions": predictions,
    }


def compare_with_baseline(scores: Scores, baseline: dict[str, Any]) -> PairedTest | None:
    """Test whether scores are better than the baseline on the same videos.

    Args:
        scores: Scores of the test videos.
        baseline: What `measure_box_shape_baseline` found.

    Returns:
        The paired test; None if the baseline's predictions of these videos are not known.
    """
    predictions = baseline.get("predictions") or {}
    if not all(video in predictions for video in scores.ids):
        return None
    labels = np.array(scores.labels)
    guessed = [predictions[video] == scores.classes[label] for video, label in zip(scores.ids, labels, strict=True)]
    return compare_pairs(
        np.array(guessed, dtype=float), find_correct(scores.mean().numpy(), labels), Units(scores.groups)
    )


def _describe_shapes(videos: list[StoredVideo]) -> tuple[tuple[float, ...], ...]:
    """N rows: source width, height, aspect, frames."""
    return tuple((v.source_width, v.source_height, v.source_width / v.source_height, v.frames) for v in videos)


@lru_cache(maxsize=256)  # all evaluations of a sweep ask for the same few
def _predict(
    train: tuple[tuple[float, ...], ...], classes: tuple[str, ...], test: tuple[tuple[float, ...], ...], seed: int
) -> tuple[str, ...]:
    """Predict the class of each row of `test`, by a forest trained on the rows and classes of `train`."""
    forest = RandomForestClassifier(500, random_state=seed)
    forest.fit(np.array(train), list(classes))
    return tuple(map(str, forest.predict(np.array(test))))
