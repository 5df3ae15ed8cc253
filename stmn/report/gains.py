"""Compare two evaluations of the same videos class by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.evaluation.comparison import Comparison, compare_scores
from stmn.evaluation.paired import LEVEL
from stmn.report.contents import Evaluation


@dataclass(frozen=True)
class ClassGain:
    """A class's accuracy before and after, in 0..1, and its number of test videos."""

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
    """What one evaluation gains over another.

    Attributes:
        before: label of the first evaluation.
        after: label of the second.
        classes: every class that has test videos, largest gain first.
        overall: the comparison over all videos.
    """

    before: str
    after: str
    classes: list[ClassGain]
    overall: Comparison

    @property
    def gained(self) -> list[ClassGain]:
        """Classes that got better, largest gain first."""
        return [item for item in self.classes if item.gain > 0]

    @property
    def lost(self) -> list[ClassGain]:
        """Classes that got worse, largest loss first."""
        return [item for item in self.classes if item.gain < 0][::-1]

    @property
    def words(self) -> str:
        """The difference in words: "16.7 points below"."""
        points = abs(100 * self.overall.difference)
        if not self.overall.difference:
            return "as accurate as"
        return f"{points:.1f} points {'above' if self.overall.difference > 0 else 'below'}"

    @property
    def verdict(self) -> str:
        """The verdict of the paired test: "clearly better", "clearly worse" or "not clearly different"."""
        if self.overall.p_value >= LEVEL:
            return "not clearly different"
        return f"clearly {'better' if self.overall.difference > 0 else 'worse'}"

    def sort_classes(self, classes: Sequence[str]) -> list[int]:
        """Indices into `classes`, largest gain first, classes without test videos last."""
        rank = {item.name: row for row, item in enumerate(self.classes)}
        return sorted(range(len(classes)), key=lambda number: rank.get(classes[number], len(classes)))


def compute_gains(before: Evaluation, after: Evaluation) -> Gains:
    """Compare two evaluations class by class.

    Raises:
        DataError: they are of different videos or classes.
    """
    overall = compare_scores(before.scores, after.scores, f"{after.name} compared with {before.name}")
    first, second = before.metrics["per_class"], after.metrics["per_class"]
    found = [
        ClassGain(name, result["accuracy"], second[name]["accuracy"], result["videos"])
        for name, result in first.items()
        if result["videos"]
    ]
    found.sort(key=lambda item: (-item.gain, -item.after, item.name))
    return Gains(before.label, after.label, found, overall)


def compute_gate_gains(evaluations: Sequence[Evaluation]) -> Gains | None:
    """The gains of the last gated network over the last late fusion; None unless both tested the same videos."""
    found = {evaluation.role: evaluation for evaluation in evaluations}
    return _compute_if_same_videos(found.get("late_fusion"), found.get("fused"))


def compute_stream_gains(evaluations: Sequence[Evaluation]) -> Gains | None:
    """The gains of the last gated network over the best single stream; None unless both tested the same videos.

    The best stream is the one with the highest accuracy on these test videos, a choice that favours the stream.
    """
    fused = [evaluation for evaluation in evaluations if evaluation.role == "fused"]
    single = [evaluation for evaluation in evaluations if evaluation.role in ("appearance", "motion")]
    best = max(single, key=lambda evaluation: evaluation.metrics["accuracy"], default=None)
    return _compute_if_same_videos(best, fused[-1] if fused else None)


def _compute_if_same_videos(before: Evaluation | None, after: Evaluation | None) -> Gains | None:
    """The gains; None if one is missing or they tested different videos, which the page warns of."""
    if before is None or after is None:
        return None
    try:
        return compute_gains(before, after)
    except DataError:
        return None


def list_class_accuracies(metrics: dict[str, Any]) -> NDArray[np.float64]:
    """(classes,) accuracy of each class in 0..1; NaN for a class without test videos."""
    return np.array([metrics["per_class"][name].get("accuracy", np.nan) for name in metrics["classes"]], dtype=float)
