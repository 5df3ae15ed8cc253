"""Compare evaluations with the first: their numbers, their gains, and whether they were measured in the same way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stmn.evaluation.agreement import find_differences
from stmn.report.contents import Evaluation
from stmn.report.gains import Gains, compute_gains

#: numbers of an evaluation that the JSON has
_NUMBERS = (
    "videos", "accuracy", "intervals", "intervals_over", "units", "top5", "mean_class_accuracy", "calibration_error",
    "notes",
)  # fmt: skip


@dataclass(frozen=True)
class ComparedEvaluation:
    """An evaluation compared with the first one.

    Attributes:
        evaluation: the evaluation.
        gains: its gains over the first; None for the first itself.
        differences: key of the protocol -> (the first's value, this one's); a value is None if not recorded.
    """

    evaluation: Evaluation
    gains: Gains | None
    differences: dict[str, tuple[Any, Any]]

    @property
    def metrics(self) -> dict[str, Any]:
        """The evaluation's numbers."""
        return self.evaluation.metrics

    def as_json(self) -> dict[str, Any]:
        """The evaluation as JSON; shares and differences are in 0..1."""
        found: dict[str, Any] = {"name": self.evaluation.name, "label": self.evaluation.label}
        found |= {key: self.metrics[key] for key in _NUMBERS} | {"streams": self.metrics["streams"]}
        found |= {"protocol": self.evaluation.scores.protocol, "protocol_differs": sorted(self.differences)}
        if self.gains:
            overall = self.gains.overall
            found["against_first"] = {
                "difference": overall.difference,
                "interval": overall.interval,
                "p_value": overall.p_value,
                "test": overall.test,
                "test_limit": overall.test_limit,
                "first_alone": overall.first_alone,
                "this_alone": overall.second_alone,
                "classes": {item.name: item.gain for item in self.gains.classes},
            }
        return found


def compare_with_first(evaluations: Sequence[Evaluation]) -> list[ComparedEvaluation]:
    """Compare each evaluation with the first.

    Raises:
        DataError: one is of different videos, classes, data sets, splits or parts, or has different true classes.
    """
    first, *others = evaluations
    compared = [ComparedEvaluation(first, None, {})]
    for other in others:
        gains = compute_gains(first, other)
        compared.append(
            ComparedEvaluation(other, gains, find_differences(first.scores.protocol, other.scores.protocol))
        )
    return compared


def describe_tests(compared: Sequence[ComparedEvaluation]) -> list[str]:
    """The tests behind the p-values, and what they can't show, one line each."""
    found = [item.gains.overall for item in compared if item.gains]
    lines = [f"p: {overall.test}, against the first" for overall in found]
    return list(dict.fromkeys(lines + [overall.test_limit for overall in found if overall.test_limit]))


def list_streams(compared: Sequence[ComparedEvaluation]) -> list[str]:
    """The streams of evaluations that have several, appearance and motion first."""
    names = dict.fromkeys(name for c in compared if len(c.metrics["streams"]) > 1 for name in c.metrics["streams"])
    first = [name for name in ("appearance", "motion") if name in names]
    return first + [name for name in names if name not in first]
