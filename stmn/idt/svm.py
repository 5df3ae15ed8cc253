"""One-against-rest linear SVMs on video descriptors."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import LinearSVC
from torch import Tensor

from stmn.errors import DataError

#: Wang and Schmid's choice, and that of the common IDT pipelines
C = 100.0


def svm_scores(
    train: NDArray[np.float32], labels: list[int], test: NDArray[np.float32], classes: int, seed: int = 0
) -> Tensor:
    """(N, classes) signed distances of the test rows to each class's plane.

    A class without training videos gets the lowest score of its row. Raises `DataError` when there is one class alone.
    """
    if len(set(labels)) < 2:
        raise DataError("an SVM needs training videos of two classes; the training list holds one class")
    machine = LinearSVC(C=C, random_state=seed, dual="auto", max_iter=5000)
    machine.fit(train, labels)
    values = machine.decision_function(test)
    if values.ndim == 1:  # two classes share one plane
        values = np.stack([-values, values], axis=1)
    full = np.repeat(values.min(axis=1, keepdims=True), classes, axis=1)
    full[:, machine.classes_] = values
    return torch.from_numpy(full.astype(np.float32))
