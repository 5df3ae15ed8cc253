"""Temperature scaling (Guo et al. 2017, section 4.2): one number makes the softmax of logits an honest confidence.

Dividing by a temperature moves no class past another, so accuracy stays as it is.
"""

from collections.abc import Sequence
from math import exp, floor, log

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from stmn.evaluation.intervals import FloatArray

#: temperatures are looked for between these; where logits are all alike, the best one has no bound
LEAST, MOST = 0.1, 10.0
#: parts in which temperatures are fitted on all others, at most
_PARTS = 10


def fit_temperature(logits: FloatArray, labels: NDArray[np.int64]) -> float:
    """The temperature with which the softmax gives the true classes the largest likelihood.

    The true class of each of N videos counts (N + 1) / (N + 2), and the other classes share the rest, as Platt (1999,
    section 2.2) does for two classes. So a few videos that are all correct don't make a model certain.

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
    """(N,): for each video a temperature fitted on videos of other groups; None if there is one group.

    So the calibration error with these is one of videos that the temperature has not seen.

    Args:
        logits: (N, classes).
        labels: (N,) class numbers.
        groups: of each video; videos of one group stay together.
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
    """(N,): the softmax of the best class of (N, classes) logits after a temperature, one or one for each video."""
    scaled = logits / np.reshape(temperature, (-1, 1))
    best: FloatArray = softmax(scaled, axis=1).max(axis=1)
    return best


def find_threshold(confidence: FloatArray, correct: FloatArray, kept: float) -> float:
    """The confidence that a fraction of the correct predictions reach; 0 if none is correct.

    Args:
        confidence: (N,) of the predictions.
        correct: (N,) 1 for a correct one, else 0.
        kept: the fraction, 0..1.
    """
    right = np.sort(confidence[correct > 0])
    return float(right[floor(round((1 - kept) * len(right), 6))]) if len(right) else 0.0


def energy_range(logits: FloatArray) -> tuple[float, float]:
    """The least and the largest energy (Liu et al. 2020, without its sign) of (N, classes) logits."""
    energies = logsumexp(logits, axis=1)
    return float(energies.min()), float(energies.max())
