"""One-against-rest linear SVMs on video descriptors."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import LinearSVC
from torch import Tensor

from stmn.errors import DataError

#: the penalty of Wang and Schmid (2013) and of common IDT pipelines
_C = 100.0


def score_with_svm(
    train: NDArray[np.float32], labels: list[int], test: NDArray[np.float32], classes: int, seed: int = 0
) -> Tensor:
    """Train an SVM and score test videos.

    Args:
        train: (M, D) descriptors of the training videos.
        labels: The class index of each.
        test: (N, D) descriptors of the test videos.
        classes: The number of classes.
        seed: The seed of the solver.

    Returns:
        (N, classes) signed distances to each class's plane. A class without training videos gets the lowest score of
        each row.

    Raises:
        DataError: All training videos are of one class.
    """
    if len(set(labels)) < 2:
        raise DataError("an SVM needs training videos of at least two classes; the training list holds one class")
    machine = LinearSVC(C=_C, random_state=seed, dual="auto", max_iter=5000)
    machine.fit(train, labels)
    values = machine.decision_function(test)
    if values.ndim == 1:  # two classes share one plane
        values = np.stack([-values, values], axis=1)
    full = np.repeat(values.min(axis=1, keepdims=True), classes, axis=1)
    full[:, machine.classes_] = values
    return torch.from_numpy(full.astype(np.float32))
