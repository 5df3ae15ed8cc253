"""Evaluations side by side: each one's numbers, how it differs from the first, and whether they were measured alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stmn.errors import DataError
from stmn.report.contents import Evaluation
from stmn.report.gains import Gains, gains

#: what a protocol says that is not how the number was measured, or is told otherwise
UNTOLD = ("words", "parts", "late_fusion_weights", "late_fusion_weights_chosen_on", "idt", "idt_weights")
#: numbers of an evaluation that a comparison shows
NUMBERS = ("videos", "accuracy", "intervals", "intervals_over", "top5", "mean_class_accuracy", "calibration_error")


@dataclass(frozen=True)
class Row:
    """An evaluation beside the first one.

    `against` is None for the first. `differs`: key of the protocol -> (the first's value, this one's); what a file
    does not tell is None.
    """

    evaluation: Evaluation
    against: Gains | None
    differs: dict[str, tuple[Any, Any]]

    @property
    def metrics(self) -> dict[str, Any]:
        """The evaluation's numbers."""
        return self.evaluation.metrics

    def as_json(self) -> dict[str, Any]:
        """For machines: shares and differences in 0..1."""
        told: dict[str, Any] = {"name": self.evaluation.name, "label": self.evaluation.label}
        told |= {key: self.metrics[key] for key in NUMBERS} | {"streams": self.metrics["streams"]}
        told |= {"protocol": self.evaluation.scores.protocol, "protocol_differs": sorted(self.differs)}
        if self.against:
            whole = self.against.whole
            told["against_first"] = {
                "difference": whole.difference,
                "interval": whole.interval,
                "p_value": whole.p_value,
                "first_alone": whole.first_alone,
                "this_alone": whole.second_alone,
                "classes": {item.name: item.gain for item in self.against.classes},
            }
        return told


def set_beside(evaluations: Sequence[Evaluation]) -> list[Row]:
    """Each evaluation beside the first. Raises `DataError` when one did not score the same videos and classes."""
    first, *others = evaluations
    rows = [Row(first, None, {})]
    for other in others:
        truth = dict(zip(other.scores.ids, other.scores.labels, strict=True))
        found = gains(first, other)
        wrong = [i for i, label in zip(first.scores.ids, first.scores.labels, strict=True) if truth[i] != label]
        if wrong:
            raise DataError(f"{other.name} beside {first.name}: they give {wrong[0]!r} different true classes")
        rows.append(Row(other, found, differences(first.scores.protocol, other.scores.protocol)))
    return rows


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What two protocols say differently."""
    one, other = ({"seen_in_training": 0} | protocol for protocol in (one, other))
    keys = [key for key in {**one, **other} if key not in UNTOLD and one.get(key) != other.get(key)]
    return {key: (one.get(key), other.get(key)) for key in keys}


def differences_in_words(row: Row) -> str:
    """`chunks 5 instead of 25, flips no instead of yes`."""
    return ", ".join(
        f"{key.replace('_', ' ')} {told(mine)} instead of {told(firsts)}" for key, (firsts, mine) in row.differs.items()
    )


def told(value: Any) -> str:
    """A protocol's value in words."""
    words = {None: "(not told)", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value).replace("_", " ")


def stream_names(rows: Sequence[Row]) -> list[str]:
    """The streams that any evaluation of several tells apart, appearance and motion first."""
    names = dict.fromkeys(name for row in rows if len(row.metrics["streams"]) > 1 for name in row.metrics["streams"])
    first = [name for name in ("appearance", "motion") if name in names]
    return first + [name for name in names if name not in first]
