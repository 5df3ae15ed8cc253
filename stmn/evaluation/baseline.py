"""How well a classifier does that sees only the frame size and length of a video.

Data sets of clips cut out by hand may leak the class through the cut. An accuracy means little unless it is clearly
above this baseline.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from stmn.evaluation.metrics import wilson_interval
from stmn.store.format.read import Store, StoredVideo


def measure_box_shape_baseline(store: Store, split: str, seed: int = 0) -> dict[str, object] | None:
    """Train and test a random forest on the width, height, aspect and frame count of a split's videos.

    Args:
        store: The prepared data set.
        split: The split.
        seed: The seed of the forest.

    Returns:
        `videos`, `accuracy` in 0..1 and its 95 % `interval`, or None if all training videos have the same shape and
        length, so that nothing can leak.
    """
    train, test = store.part(split, "train"), store.part(split, "test")
    features = _describe_shapes(train)
    if len(np.unique(features, axis=0)) == 1:
        return None
    forest = RandomForestClassifier(500, random_state=seed)
    forest.fit(features, [video.class_name for video in train])
    correct = int((forest.predict(_describe_shapes(test)) == [video.class_name for video in test]).sum())
    return {
        "videos": len(test),
        "accuracy": correct / len(test),
        "interval": list(wilson_interval(correct, len(test))),
    }


def _describe_shapes(videos: list[StoredVideo]) -> NDArray[np.float64]:
    """(N, 4): source width, height, aspect, frames."""
    return np.array([[v.source_width, v.source_height, v.source_width / v.source_height, v.frames] for v in videos])
