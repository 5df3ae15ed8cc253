"""A page's notes on its evaluations: how they were measured, warnings, and numbers to compare them with."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from stmn.errors import count_of
from stmn.evaluation.agreement import Source
from stmn.evaluation.baseline import compare_with_baseline
from stmn.evaluation.paired import LEVEL
from stmn.report.contents import Contents, Evaluation
from stmn.report.paper import PaperAccuracy, find_nearest, is_paper_dataset
from stmn.report.words import describe_p_value, describe_protocol, format_percent
from stmn.store.format.read import Store

#: the most pairs of classes that are listed beside a confusion matrix too large to read
_PAIRS = 12
#: part of a split -> the word for its videos
_PARTS = {"test": "test", "validation": "validation", "train": "training"}
_ROLES = {
    "appearance": "appearance", "motion": "motion", "late_fusion": "late fusion", "fused": "gated fusion",
    "idt": "with IDT", "svm": "with SVM",
}  # fmt: skip


def list_titles(evaluations: Sequence[Evaluation]) -> list[str]:
    """A short title for each evaluation: its role if no other has it, else its label."""
    roles = [evaluation.role for evaluation in evaluations]
    return [_ROLES[e.role] if e.role in _ROLES and roles.count(e.role) == 1 else e.label for e in evaluations]


def list_parts(evaluations: Sequence[Evaluation]) -> str:
    """The parts whose videos were tested, in words: "test", "test and validation"."""
    tested = {evaluation.source.part for evaluation in evaluations}
    return " and ".join(word for part, word in _PARTS.items() if part in tested)


def count_videos(evaluations: Sequence[Evaluation], store: Store) -> list[tuple[str, str]]:
    """For each part of a split that was tested: a label for its videos, and how many of its list have scores.

    Only training knows the list of validation videos, so of these only the ones with scores are counted.
    """
    scored: dict[Source, set[str]] = {}
    for evaluation in evaluations:
        key = replace(evaluation.source, data_fingerprint="")
        scored.setdefault(key, set()).update(evaluation.scores.ids)
    several = len({source.split for source in scored}) > 1
    found = []
    for source, ids in scored.items():
        label = f"{_PARTS[source.part].capitalize()} videos{f', split {source.split}' if several else ''}"
        listed = store.header.listed(source.split, source.part) if source.part in ("train", "test") else sorted(ids)
        readable = [video for i in listed if (video := store.videos.get(i)) and video.status == "ok"]
        lacking = {"could not be read": len(listed) - len(readable), "without scores": len(readable) - len(ids)}
        words = f"{len(ids):,}" + (f" of {len(listed):,} listed" if len(listed) > len(ids) else "")
        found.append((label, words + "".join(f"; {count:,} {what}" for what, count in lacking.items() if count > 0)))
    return found


def find_paper_accuracies(dataset: str, classes: int, contents: Contents) -> dict[str, PaperAccuracy | None]:
    """Label of an evaluation -> the paper's number to show beside it, or None. Empty for data sets not in the paper.

    Args:
        dataset: name of the data set's plugin.
        classes: the data set's number of classes.
        contents: the report's evaluations.
    """
    if not is_paper_dataset(dataset, classes):
        return {}
    found = {e.label: find_nearest(dataset, e.role, e.networks, e.source.split) for e in contents.evaluations}
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
    """The different protocols of the evaluations, in words."""
    return list(dict.fromkeys(describe_protocol(evaluation.metrics) for evaluation in evaluations))


def list_baselines(evaluations: Sequence[Evaluation]) -> list[tuple[str, dict[str, Any]]]:
    """The different box-shape baselines, each with a label."""
    found = [e.metrics["box_shape_baseline"] for e in evaluations if e.metrics.get("box_shape_baseline")]
    different = [baseline for number, baseline in enumerate(found) if baseline not in found[:number]]
    words = "frame size and length alone"
    return [
        (words if len(different) == 1 else f"{words} ({count_of(baseline['videos'], 'video')})", baseline)
        for baseline in different
    ]


def find_warnings(evaluations: Sequence[Evaluation], same_data: bool) -> Iterator[str]:
    """Yield what a reader must know before trusting or comparing the numbers.

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
            yield f"{e.label} was trained on {seen:,} of the {count_of(len(e.scores.ids), 'video')} it was tested on."
        yield from _warn_of_baseline(e)
    yield from dict.fromkeys(note for e in evaluations for note in e.metrics["notes"])
    if not same_data:
        yield "The data set has changed since some of these runs; pictures and counts are of the present one."


def _warn_of_baseline(evaluation: Evaluation) -> Iterator[str]:
    """A warning if a paired test doesn't find an evaluation better than the box shapes, or could not be made."""
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
