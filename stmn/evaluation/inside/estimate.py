"""A mean over videos with its 95 % interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import t

from stmn.evaluation.intervals import Units

_TAIL = 0.975


@dataclass(frozen=True)
class Estimate:
    """A mean over videos and its 95 % interval, by Student's t over groups; NaN where unavailable."""

    mean: float
    low: float
    high: float

    def as_json(self) -> dict[str, float | None]:
        """Return plain values; None for NaN."""
        return {name: value if np.isfinite(value) else None for name, value in vars(self).items()}


def estimate(values: Sequence[float], groups: Sequence[str]) -> Estimate:
    """Estimate the mean of one value per video.

    Args:
        values: N values; those that are not finite are left out.
        groups: the group of each video.
    """
    kept = [(value, group) for value, group in zip(values, groups, strict=True) if np.isfinite(value)]
    if not kept:
        return Estimate(np.nan, np.nan, np.nan)
    numbers = np.array([value for value, _ in kept])
    units = Units([group for _, group in kept])
    mean = float(numbers.mean())
    if units.count < 2:
        return Estimate(mean, np.nan, np.nan)
    half = float(t.ppf(_TAIL, units.degrees)) * sqrt(units.variance((numbers - mean) / len(numbers)))
    return Estimate(mean, mean - half, mean + half)
