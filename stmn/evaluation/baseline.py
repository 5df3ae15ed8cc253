"""What the containers alone give away: a classifier on frame size and length.

Data sets of cut-out clips leak their class through the cut. An accuracy means little unless it is clearly above this.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from stmn.evaluation.metrics import interval
from stmn.store.format.read import Store, StoredVideo


def box_shape_baseline(store: Store, split: str, seed: int = 0) -> dict[str, object] | None:
    """A random forest on width, height, aspect and frame count, trained and tested on a split.

    None when all videos have one shape and length, so that there is nothing to leak.
    """
    train, test = store.part(split, "train"), store.part(split, "test")
    features = shapes(train)
    if len(np.unique(features, axis=0)) == 1:
        return None
    forest = RandomForestClassifier(500, random_state=seed)
    forest.fit(features, [video.class_name for video in train])
    right = int((forest.predict(shapes(test)) == [video.class_name for video in test]).sum())
    return {"videos": len(test), "accuracy": right / len(test), "interval": list(interval(right, len(test)))}


def shapes(videos: list[StoredVideo]) -> NDArray[np.float64]:
    """(N, 4): source width, height, aspect, frames."""
    return np.array([[v.source_width, v.source_height, v.source_width / v.source_height, v.frames] for v in videos])
