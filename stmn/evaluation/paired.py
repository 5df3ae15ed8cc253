"""Is one classifier better than another on the same videos? A permutation test over whole groups."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stmn.evaluation.intervals import Units

#: below this p-value, one classifier is called better than the other
LEVEL = 0.05


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test of the difference of two classifiers.

    Attributes:
        p_value: The probability of a difference at least this large if the two were interchangeable.
        over: "groups", or "videos" if each is its own group.
        units: The number of groups or videos.
        seeds: Number of results per video.
    """

    p_value: float
    over: str
    units: int
    seeds: int = 1

    @property
    def smallest(self) -> float:
        """The smallest p-value possible with this many units: all of them differ in the same direction."""
        return min(1.0, 2.0 ** (1 - self.units))

    @property
    def can_decide(self) -> bool:
        """False if no outcome could have given a p-value below 0.05."""
        return self.smallest < LEVEL

    @property
    def name(self) -> str:
        """Name of the test: "exact sign-flip test over 12 groups"."""
        test = "McNemar's exact test" if self.over == "videos" and self.seeds == 1 else "exact sign-flip test"
        return f"{test} over {self._counted}"

    @property
    def _counted(self) -> str:
        return f"{self.units:,} {self.over if self.units != 1 else self.over[:-1]}"

    @property
    def limit(self) -> str:
        """What so few units can't show: "3 groups can't give a p below 0.25"; empty if there are enough."""
        if self.can_decide:
            return ""
        return f"{self._counted} can't give a p below {self.smallest:.2g}, whatever the difference"


def compare_pairs(
    first: NDArray[np.bool_] | NDArray[np.float64],
    second: NDArray[np.bool_] | NDArray[np.float64],
    units: Units,
    seeds: int = 1,
) -> PairedTest:
    """Test whether two classifiers differ, by exchanging them in whole units.

    If both were equally good, the difference of each group could as well have had the other sign. The p-value is the
    share of all 2^groups choices of signs whose absolute sum is at least the observed one. All of them are counted: the
    differences are whole numbers of results, so the distribution of their sum is built up group by group. If each
    video is its own group and has one result, this is McNemar's exact test.

    Args:
        first: (N,) whether the first classifier is correct; over several seeds, the number of correct results.
        second: (N,) the same for the second.
        units: The independent units. All results of a video are exchanged together, with its unit.
        seeds: Number of results per video.
    """
    gains = units.sum_by_unit(np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64))
    differences = np.rint(gains).astype(np.int64)
    sums = np.ones(1)  # probabilities of the sums -reach, ..., reach
    for size in np.abs(differences[differences != 0]):
        longer = np.zeros(len(sums) + 2 * size)
        longer[: len(sums)] = sums / 2
        longer[2 * size :] += sums / 2
        sums = longer
    reach = len(sums) // 2
    extreme = np.abs(np.arange(-reach, reach + 1)) >= abs(int(differences.sum()))
    return PairedTest(min(1.0, float(sums[extreme].sum())), units.over, units.count, seeds)
