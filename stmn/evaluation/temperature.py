"""Temperature scaling (Guo et al. 2017, section 4.2): one number makes the softmax of logits an honest confidence.

Dividing by a temperature does not change the order of the classes, so accuracy stays as it is.
"""

from collections.abc import Sequence
from math import exp, floor, log

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from stmn.evaluation.intervals import FloatArray

#: the range that is searched; if all logits are equal, the best temperature is unbounded
LEAST, MOST = 0.1, 10.0
#: cross-fitting uses at most this many parts
_PARTS = 10


def fit_temperature(logits: FloatArray, labels: NDArray[np.int64]) -> float:
    """Return the temperature that maximises the likelihood of the true classes under the softmax.

    The target of each of N videos is (N + 1) / (N + 2) for the true class, and the other classes share the rest, as in
    Platt (1999, section 2.2) for two classes. So a few videos that are all correct don't make a model certain.

    Args:
        logits: (N, classes).
        labels: (N,) class numbers.
    """
    count, classes = logits.shape
    sure = (count + 1) / (count + 2)
    true = logits[np.arange(count), labels]
    rest = (logits.sum(axis=1) - true) / max(1, classes - 1)
    wanted = sure * true + (1 - sure) * rest

    def loss(log_temperature: float) -> float:
        """The mean negative log-likelihood, eq. (9) of the paper."""
        inverse = exp(-log_temperature)
        return float((logsumexp(logits * inverse, axis=1) - wanted * inverse).mean())

    return float(exp(minimize_scalar(loss, bounds=(log(LEAST), log(MOST)), method="bounded").x))


def cross_fit(logits: FloatArray, labels: NDArray[np.int64], groups: Sequence[str]) -> FloatArray | None:
    """Return (N,): for each video a temperature fitted on videos of other groups; None if there is one group.

    So the calibration error with these temperatures is measured on videos that they were not fitted on.

    Args:
        logits: (N, classes).
        labels: (N,) class numbers.
        groups: the group of each video; videos of one group stay together.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        return None
    part_of = {name: number % _PARTS for number, name in enumerate(names)}
    parts = np.array([part_of[group] for group in groups])
    found = np.ones(len(labels))
    for part in range(min(_PARTS, len(names))):
        others = parts != part
        found[~others] = fit_temperature(logits[others], labels[others])
    return found


def confidence_of(logits: FloatArray, temperature: float | FloatArray) -> FloatArray:
    """Return (N,) the highest softmax probability of (N, classes) logits divided by a temperature, or one per video."""
    scaled = logits / np.reshape(temperature, (-1, 1))
    best: FloatArray = softmax(scaled, axis=1).max(axis=1)
    return best


def find_threshold(confidence: FloatArray, correct: FloatArray, kept: float) -> float:
    """Return the confidence that a given fraction of the correct predictions reaches; 0 if none is correct.

    Args:
        confidence: (N,) confidence of the predictions.
        correct: (N,) 1 for a correct one, else 0.
        kept: the fraction, 0..1.
    """
    right = np.sort(confidence[correct > 0])
    return float(right[floor(round((1 - kept) * len(right), 6))]) if len(right) else 0.0


def energy_range(logits: FloatArray) -> tuple[float, float]:
    """Return the smallest and largest energy (Liu et al. 2020, with the sign reversed) of (N, classes) logits."""
    energies = logsumexp(logits, axis=1)
    return float(energies.min()), float(energies.max())
