"""One-against-rest linear SVMs on vectors of videos; only a few vectors are in memory at a time."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC
from torch import Tensor

from stmn.errors import DataError

#: the penalty of Wang and Schmid (2013) and of common IDT pipelines
PENALTY = 100.0
#: vectors at a time
_BLOCK = 256

#: index of a video in a list -> its vector
Vectors = Callable[[int], NDArray[np.floating]]


def score_with_svm(
    train: Vectors, labels: list[int], test: Vectors, tests: int, classes: int, penalty: float = PENALTY
) -> Tensor:
    """Train SVMs and score test videos.

    The SVMs get the dot products of all pairs of vectors, so memory grows with the square of the number of videos, not
    with the vectors: 800 MB for 10,000 training videos, whatever the length of a vector.

    Args:
        train: Returns the vector of a training video.
        labels: The class index of each training video.
        test: Returns the vector of a test video.
        tests: The number of test videos.
        classes: The number of classes.
        penalty: C, the price of a training video on the wrong side.

    Returns:
        (tests, classes) signed distances to each class's plane. A class without training videos gets the lowest score
        of each row.

    Raises:
        DataError: All training videos are of one class.
    """
    if len(set(labels)) < 2:
        raise DataError("an SVM needs training videos of at least two classes; the training list holds one class")
    products = _multiply(train, len(labels), train, len(labels))
    machine = OneVsRestClassifier(SVC(kernel="precomputed", C=penalty))
    machine.fit(products, labels)
    values = machine.decision_function(_multiply(test, tests, train, len(labels)))
    if values.ndim == 1:  # two classes share one plane
        values = np.stack([-values, values], axis=1)
    full = np.repeat(values.min(axis=1, keepdims=True), classes, axis=1)
    full[:, machine.classes_] = values
    return torch.from_numpy(full.astype(np.float32))


def _multiply(first: Vectors, rows: int, second: Vectors, columns: int) -> NDArray[np.float64]:
    """(rows, columns) dot products of vectors; only two blocks of vectors are in memory at a time."""
    products = np.zeros((rows, columns))
    for top in range(0, rows, _BLOCK):
        upper = _stack(first, top, rows)
        for left in range(0, columns, _BLOCK):
            products[top : top + _BLOCK, left : left + _BLOCK] = upper @ _stack(second, left, columns).T
    return products


def _stack(vectors: Vectors, start: int, end: int) -> NDArray[np.float32]:
    """Stack a block of vectors."""
    return np.stack([vectors(number) for number in range(start, min(start + _BLOCK, end))]).astype(np.float32)
