"""What a page says about its evaluations: how they were measured, what to beware of, what stands beside them."""

from collections.abc import Iterator, Sequence
from typing import Any

from stmn.errors import DataError
from stmn.evaluation.baseline import compare_with_baseline
from stmn.evaluation.paired import LEVEL
from stmn.report.contents import Contents, Evaluation
from stmn.report.paper import PaperAccuracy, find_nearest, is_paper_dataset
from stmn.report.words import describe_p_value, describe_protocol, format_percent

#: pairs of classes that are listed beside a confusion matrix too large to read
_PAIRS = 12
_ROLES = {
    "appearance": "appearance", "motion": "motion", "late_fusion": "late fusion", "fused": "gated fusion",
    "idt": "with IDT", "svm": "with SVM",
}  # fmt: skip


def list_titles(evaluations: Sequence[Evaluation]) -> list[str]:
    """A word or two for each evaluation: its role if no other has it, or else its label."""
    roles = [evaluation.role for evaluation in evaluations]
    return [_ROLES[e.role] if e.role in _ROLES and roles.count(e.role) == 1 else e.label for e in evaluations]


def check_classes(evaluations: Sequence[Evaluation]) -> None:
    """Make sure that evaluations can share a page.

    Raises:
        DataError: they have different classes.
    """
    for other in evaluations[1:]:
        if other.metrics["classes"] != evaluations[0].metrics["classes"]:
            raise DataError(f"{other.name} and {evaluations[0].name} have different classes; make a report of each")


def find_paper_accuracies(dataset: str, classes: int, contents: Contents) -> dict[str, PaperAccuracy | None]:
    """Label of an evaluation -> the paper's number to show beside it, or None. Empty for other data sets.

    Args:
        dataset: name of the plugin that made the data set.
        classes: its number of classes.
        contents: the report's evaluations.
    """
    if not is_paper_dataset(dataset, classes):
        return {}
    found = {
        e.label: find_nearest(dataset, e.role, e.networks, str(e.scores.protocol.get("split") or contents.split))
        for e in contents.evaluations
    }
    return found | {a.label: find_nearest(dataset, a.role, a.networks, "all") for a in contents.all_splits}


def list_confusions(metrics: dict[str, Any]) -> list[tuple[str, str, int, int]]:
    """The most frequent confusions: true class, predicted class, number of videos, videos of the true class."""
    classes, confusion = metrics["classes"], metrics["confusion"]
    pairs = [
        (classes[true], classes[predicted], count, sum(row))
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:_PAIRS]


def list_protocols(evaluations: Sequence[Evaluation]) -> list[str]:
    """The different ways in which the numbers were measured, in words."""
    return list(dict.fromkeys(describe_protocol(evaluation.metrics) for evaluation in evaluations))


def list_baselines(evaluations: Sequence[Evaluation]) -> list[tuple[str, dict[str, Any]]]:
    """The different box-shape baselines, each with words for it."""
    found = [e.metrics["box_shape_baseline"] for e in evaluations if e.metrics.get("box_shape_baseline")]
    different = [baseline for number, baseline in enumerate(found) if baseline not in found[:number]]
    words = "frame size and length alone"
    return [(words if len(different) == 1 else f"{words} ({b['videos']} videos)", b) for b in different]


def find_warnings(evaluations: Sequence[Evaluation], same_data: bool) -> Iterator[str]:
    """What a reader must know before believing or comparing the numbers.

    Args:
        evaluations: the page's evaluations.
        same_data: False if the data set has changed since a run used it.
    """
    if len(list_protocols(evaluations)) > 1:
        yield "These evaluations were measured in different ways; compare them with care."
    if len({frozenset(e.scores.ids) for e in evaluations}) > 1:
        yield "These evaluations were not run on the same videos."
    for e in evaluations:
        if seen := (e.metrics.get("protocol") or {}).get("seen_in_training"):
            yield f"{e.label} was trained on {seen} of the videos it was tested on."
        yield from _warn_of_baseline(e)
    yield from dict.fromkeys(note for e in evaluations for note in e.metrics["notes"])
    if not same_data:
        yield "The data set has changed since some of these runs; pictures and counts are of the present one."


def _warn_of_baseline(evaluation: Evaluation) -> Iterator[str]:
    """A warning if an evaluation is not better than the box shapes by a paired test, or that could not be tested."""
    baseline = evaluation.metrics.get("box_shape_baseline")
    if not baseline:
        return
    guess = f"a guess from frame size and length alone ({format_percent(baseline['accuracy'])} %)"
    test = compare_with_baseline(evaluation.scores, baseline)
    if test is None:
        yield (
            f"Whether {evaluation.label} is better than {guess} was not tested: the guesses of single videos were not "
            "recorded. Evaluate again."
        )
    elif evaluation.metrics["accuracy"] <= baseline["accuracy"] or test.p_value >= LEVEL:
        limit = f"; {test.limit}" if test.limit else ""
        yield (
            f"{evaluation.label} is not clearly better than {guess}: it may have learned those instead of the action "
            f"({test.name}, {describe_p_value(test.p_value)}{limit})."
        )
