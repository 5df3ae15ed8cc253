"""95 % intervals of shares, from videos that may be related.

All shares get the same kind: Wilson's interval at the effective number of videos, as in cluster surveys (Korn and
Graubard, Survey Methodology 24, 1998). docs/decisions/intervals.md explains why.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm, t

from stmn.errors import count_of

FloatArray = NDArray[np.float64]

#: a note says that there are few groups if there are fewer than this, or if they are worth much fewer of equal size
_MANY_GROUPS, _MUCH_FEWER = 10, 8
#: seeds count as further results of a video if this many videos are not right, or not wrong, in all of them
_MANY_VIDEOS = 10
#: shares nearer than this are equal: a sum of weights is not exactly 1
_ROUNDING = 1e-9
_TAIL = 0.975


class Units:
    """The units that were drawn independently: groups, or videos if each is its own group.

    Args:
        groups: The group of each of N videos. Several lists join every two videos that are together in any of them.
        ids: The N videos, if one may be listed several times, for several splits; then all its places are in one unit.

    Attributes:
        number: (N,) the unit of each video, 0..count - 1.
        count: The number of units.
        over: "groups", or "videos" if no two videos share a group.
        shares: (count,) the share of the videos that is in each unit.
    """

    def __init__(self, *groups: Sequence[str], ids: Sequence[str] | None = None) -> None:
        groups = (*groups, *([] if ids is None else [ids]))
        columns = [np.unique(list(names), return_inverse=True)[1] for names in groups]
        self.number = columns[0]
        if len(columns) > 1 and len(self.number):
            nodes = len(self.number)
            links = [(np.arange(nodes), nodes * (k + 1) + column) for k, column in enumerate(columns)]
            rows, ends = (np.concatenate(side) for side in zip(*links, strict=True))
            size = nodes * (len(columns) + 1)
            graph = coo_array((np.ones(len(rows)), (rows, ends)), shape=(size, size))
            self.number = np.unique(connected_components(graph)[1][:nodes], return_inverse=True)[1]
        self.count = int(self.number.max()) + 1 if len(self.number) else 0
        self.over = "videos" if self.count == (len(self.number) if ids is None else len(set(ids))) else "groups"
        self.shares = np.bincount(self.number, minlength=self.count) / max(len(self.number), 1)

    def __str__(self) -> str:
        return f"{self.count:,} {self.over if self.count != 1 else self.over[:-1]}"

    def sum_by_unit(self, values: FloatArray) -> FloatArray:
        """Return (count,) sums of (N,) values over each unit."""
        return np.bincount(self.number, values, minlength=self.count).astype(np.float64)

    @property
    def worth(self) -> float:
        """The number of units of equal size that would show as much of how units differ (Kish's effective number)."""
        return 1 / float(np.square(self.shares).sum()) if self.count else 0.0

    @property
    def degrees(self) -> float:
        """The degrees of freedom of the variance between units: `count` - 1 if they are of equal size."""
        return max(self.worth - 1, 1.0)

    @property
    def few(self) -> str:
        """Words for groups that are too few to say how much groups differ: "9 groups are"; empty if they are enough."""
        if self.over == "videos" or (self.count >= _MANY_GROUPS and self.worth >= _MUCH_FEWER):
            return ""
        like = f", as unequal as they are, count as {self.worth:.1f}, and" if self.count >= _MANY_GROUPS else ""
        return f"{count_of(self.count, 'group', 'groups')}{like} {'is' if self.count == 1 else 'are'}"

    def variance(self, influence: FloatArray) -> float:
        """Return the variance of an estimate from each video's influence on it: (N,) values that sum to about 0.

        A large unit pulls the estimate towards itself, so its distance from it is divided by the share of the videos
        that are not in it (the jackknife's; Bell and McCaffrey, Survey Methodology 28, 2002). It is infinite for a
        single unit, which says nothing about others.
        """
        if self.count < 2:
            return float("inf")
        sums = self.sum_by_unit(influence) / (1 - self.shares)
        return (self.count - 1) / self.count * float(np.square(sums).sum())

    def widening(self, results: int) -> float:
        """Return the factor by which an interval widens because few units show little of how much units differ.

        It is the ratio of Student's t for the units to that for the results; 1 if each unit is one result.

        Args:
            results: The number of results: videos, or videos x seeds.
        """
        return 1.0 if self.count == results else float(t.ppf(_TAIL, self.degrees) / t.ppf(_TAIL, results - 1))


def wilson_interval(correct: float, count: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of `correct` / `count`; it also holds for few videos and for ratios near 0 and 1.

    Args:
        correct: Number of correct videos.
        count: Number of videos, more than 0. Neither needs to be a whole number.
    """
    z, share = float(norm.ppf(_TAIL)), correct / count
    middle, scale = share + z * z / (2 * count), 1 + z * z / count
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def share_interval(value: float, influence: FloatArray, units: Units, seeds: int = 1) -> list[float]:
    """Return the 95 % interval of a share: Wilson's at the effective number of results.

    A result is one video tested with one seed. The effective number is the number of independent results whose share
    would vary as much as this one varies between units (at most the number of results), divided by the square of
    `Units.widening`. If all results agree, nothing varies, and it is the number of units. With one seed and every video
    its own group, it is the number of videos.

    Args:
        value: The share, 0..1.
        influence: (N,) each video's influence on it: (correct - value) / N for a plain share. With several seeds
            `correct` is the share of seeds that classify the video correctly.
        units: The independent units. A video's results with all seeds are in its unit.
        seeds: Number of results per video.

    Returns:
        Low and high; 0 and 1 if there is one group, which says nothing about others.
    """
    if units.count < 2 and units.over == "groups":
        return [0.0, 1.0]
    results = len(influence) * seeds
    value = min(max(value, 0.0), 1.0)
    if min(value, 1 - value) < _ROUNDING:
        effective = float(units.count)
    else:
        variance = units.variance(influence)
        effective = min(results, 1 + value * (1 - value) / variance) if variance else float(results)
        effective /= units.widening(results) ** 2
    return list(wilson_interval(value * effective, effective))


def count_seeds(shares: FloatArray, seeds: int) -> int:
    """Return how many results a video counts for in `share_interval` or `gain_interval`: `seeds`, or 1.

    A few wrong videos don't show whether seeds fail on the same videos. So seeds are further results only if ten videos
    or more are not right in all of them, and ten or more are not wrong in all.

    Args:
        shares: (N,) the share of seeds that classify each video correctly; or for a difference, in how large a share
            only one of the two does.
        seeds: The number of seeds.
    """
    return seeds if min(int((shares < 1).sum()), int((shares > 0).sum())) >= _MANY_VIDEOS else 1


def accuracy_interval(correct: FloatArray, units: Units) -> list[float]:
    """Return the 95 % interval of the mean of (N,) values that are 0 or 1."""
    value = float(correct.mean())
    return share_interval(value, (correct - value) / len(correct), units)


def class_mean_influence(correct: FloatArray, labels: NDArray[np.int64], units: Units) -> FloatArray:
    """Return (N,) each video's influence on the mean of the classes' accuracies.

    Args:
        correct: (N,) 1 if a video is correct, else 0.
        labels: (N,) its class.
        units: The independent units.
    """
    _, label = np.unique(labels, return_inverse=True)
    videos = np.bincount(label)
    means = np.bincount(label, correct) / videos
    single = videos == 1  # a class of one video shows no variance: it is measured against the mean of all
    against = np.where(single, means.mean(), means)
    # n videos of a class show (n - 1) / n of their variance; this replaces the correction in `Units.variance`
    correction = units.count / max(units.count - 1, 1)
    grown = np.sqrt(np.where(single, correction, videos / np.maximum(videos - 1, 1)) / correction)
    influence: FloatArray = (correct - against[label]) * grown[label] / videos[label] / len(videos)
    return influence


def difference_interval(gain: FloatArray, units: Units) -> list[float]:
    """Return the 95 % interval of a paired difference of two accuracies.

    Args:
        gain: (N,) 1 where only the second is correct, -1 where only the first is, else 0.
        units: The independent units.

    Returns:
        Low and high; -1 and 1 if there is one group.
    """
    value = float(gain.mean())
    return gain_interval(value, (gain - value) / len(gain), float(np.abs(gain).mean()), units)


def gain_interval(value: float, influence: FloatArray, flipped: float, units: Units, seeds: int = 1) -> list[float]:
    """Return the 95 % interval of a paired difference of two accuracies, each over several seeds.

    Half a result is added to each of the four cells of the paired table (Agresti and Min, Statistics in Medicine 24,
    2005), at the effective number of results, so that the interval holds for few videos too. A result is one video
    tested with one seed. The effective number is that of `share_interval`, with the variance of one result's gain in
    place of a share's.

    Args:
        value: The difference, -1..1: the mean gain.
        influence: (N,) each video's influence on it: (gain - value) / N, where the gain is the mean over seeds, -1..1.
        flipped: The share of results that only one of the two classifies correctly, 0..1.
        units: The independent units. A video's results with all seeds are in its unit.
        seeds: Number of results per video.

    Returns:
        Low and high; -1 and 1 if there is one group.
    """
    if units.count < 2 and units.over == "groups":
        return [-1.0, 1.0]
    results = len(influence) * seeds
    if flipped < _ROUNDING:
        effective = float(units.count)
    else:
        spread = units.variance(influence)
        effective = min(results, 1 + (flipped - value**2) / spread) if spread else float(results)
        effective /= units.widening(results) ** 2
    total = effective + 2
    middle = value * effective / total
    half = float(norm.ppf(_TAIL)) * sqrt(max((flipped * effective + 1) / total - middle**2, 0.0) / total)
    return [max(-1.0, middle - half), min(1.0, middle + half)]
