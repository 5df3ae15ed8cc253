"""Class by class: what one evaluation has right beyond another one of the same videos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stmn.errors import DataError
from stmn.evaluation.comparison import Comparison, compare
from stmn.report.contents import Evaluation, class_shares

#: classes that are named at either end
NAMED = 5


@dataclass(frozen=True)
class ClassGain:
    """A class's share of right videos in 0..1, before and after."""

    name: str
    before: float
    after: float
    videos: int

    @property
    def gain(self) -> float:
        """The difference, in -1..1."""
        return self.after - self.before


@dataclass(frozen=True)
class Gains:
    """Every class that has test videos, largest gain first, and the comparison of all videos."""

    before: str
    after: str
    classes: list[ClassGain]
    whole: Comparison

    @property
    def gained(self) -> list[ClassGain]:
        """Classes that are better after, largest gain first."""
        return [item for item in self.classes if item.gain > 0]

    @property
    def lost(self) -> list[ClassGain]:
        """Classes that are worse after, largest loss first."""
        return [item for item in self.classes if item.gain < 0][::-1]

    def order(self, classes: Sequence[str]) -> list[int]:
        """The numbers of `classes`, largest gain first, those without test videos last."""
        place = {item.name: row for row, item in enumerate(self.classes)}
        return sorted(range(len(classes)), key=lambda number: place.get(classes[number], len(classes)))


def gains(before: Evaluation, after: Evaluation) -> Gains:
    """Compare by class. Raises `DataError` when the two did not score the same videos and classes."""
    whole = compare(before.scores, after.scores, f"{after.name} beside {before.name}")
    matrices = [np.array(evaluation.metrics["confusion"]) for evaluation in (before, after)]
    first, second = (class_shares(matrix) for matrix in matrices)
    rows = zip(before.scores.classes, first, second, matrices[0].sum(axis=1), strict=True)
    found = [ClassGain(name, float(one), float(two), int(count)) for name, one, two, count in rows if count]
    found.sort(key=lambda item: (-item.gain, -item.after, item.name))
    return Gains(before.label, after.label, found, whole)


def of_the_gates(evaluations: Sequence[Evaluation]) -> Gains | None:
    """What gates gain over late fusion: the last gated network against the last late fusion of the same videos."""
    found = {evaluation.role: evaluation for evaluation in evaluations}
    if "late_fusion" not in found or "fused" not in found:
        return None
    try:
        return gains(found["late_fusion"], found["fused"])
    except DataError:  # they did not test the same videos, which the page says elsewhere
        return None
