"""What a report is made of, and what a reader must know of it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stmn.errors import DataError
from stmn.evaluation.scores import Scores
from stmn.report.paper import UNKNOWN, Networks, Published, Role, beside, known, role_of
from stmn.report.words import percent, protocol_words

#: pairs of classes that are listed beside a confusion matrix too large to read
CONFUSED = 12
#: what a column of a figure is called
ROLES = {
    "appearance": "appearance", "motion": "motion", "late_fusion": "late fusion", "fused": "fused by gates",
    "idt": "with IDT",
}  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: scores, the content of its metrics file, and its run's fingerprint and name."""

    label: str
    scores: Scores
    metrics: dict[str, Any]
    fingerprint: str
    name: str
    #: fingerprints of the models it tested
    tested: tuple[str, ...] = ()
    networks: Networks = UNKNOWN

    @property
    def role(self) -> Role:
        """Which of the paper's kinds of result this is."""
        return role_of(list(self.scores.streams), self.scores.protocol)


@dataclass(frozen=True)
class AllSplits:
    """An evaluation of all splits: the content of its metrics file, which holds each split's and their mean."""

    label: str
    metrics: dict[str, Any]
    fingerprint: str
    name: str
    role: Role = "other"
    networks: Networks = UNKNOWN


@dataclass(frozen=True)
class Training:
    """A training run's log: rows of step, loss, accuracy."""

    label: str
    fingerprint: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """A stage that led to the numbers, for the record: what, when, how long, with which options and versions."""

    label: str
    verb: str
    name: str
    fingerprint: str
    finished: float | None
    seconds: float | None
    options: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """Everything a report is made of; evaluations in the order of the page."""

    title: str
    split: str
    evaluations: list[Evaluation]
    trainings: list[Training]
    steps: list[Step]
    #: what a reader must know before believing the numbers
    warnings: list[str] = field(default_factory=list)
    all_splits: list[AllSplits] = field(default_factory=list)
    #: the recipes that made the numbers; empty where single commands did
    recipes: list[str] = field(default_factory=list)
    fingerprint: str = ""
    samples: int = 8

    @property
    def main(self) -> Evaluation | None:
        """The evaluation whose mistakes are shown: the last of a gated network, else the last one."""
        gated = [evaluation for evaluation in self.evaluations if evaluation.role == "fused"]
        shown = gated or self.evaluations
        return shown[-1] if shown else None


def column_titles(evaluations: Sequence[Evaluation]) -> list[str]:
    """A word or two for each: what it is, where only one is that; its label otherwise."""
    roles = [evaluation.role for evaluation in evaluations]
    return [
        ROLES[e.role] if e.role in ROLES and roles.count(e.role) == 1 else e.label for e in evaluations
    ]  # fmt: skip


def check_classes(evaluations: Sequence[Evaluation]) -> None:
    """Raise `DataError` when evaluations know different classes: they can't share a figure."""
    for other in evaluations[1:]:
        if other.metrics["classes"] != evaluations[0].metrics["classes"]:
            raise DataError(f"{other.name} knows other classes than {evaluations[0].name}; report them apart")


def papers_numbers(dataset: str, classes: int, contents: Contents) -> dict[str, Published | None]:
    """Label -> the paper's number beside it; empty for a plugin or number of classes that is not its data sets'."""
    if not known(dataset, classes):
        return {}
    found = {
        e.label: beside(dataset, e.role, e.networks, str(e.scores.protocol.get("split") or contents.split))
        for e in contents.evaluations
    }
    return found | {a.label: beside(dataset, a.role, a.networks, "all") for a in contents.all_splits}


def class_shares(confusion: Any) -> Any:
    """(N,) share of right videos of each class; NaN where the test list has none."""
    import numpy as np

    counts = confusion.sum(axis=1)
    return np.where(counts > 0, confusion.diagonal() / np.maximum(counts, 1), np.nan)


def confused(metrics: dict[str, Any]) -> list[tuple[str, str, int, int]]:
    """The most frequent confusions: true class, predicted class, how many videos, of how many."""
    classes, confusion = metrics["classes"], metrics["confusion"]
    pairs = [
        (classes[true], classes[guess], count, sum(row))
        for true, row in enumerate(confusion)
        for guess, count in enumerate(row)
        if count and true != guess
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:CONFUSED]


def protocols(evaluations: Sequence[Evaluation]) -> list[str]:
    """The different ways in which the numbers were measured, in words."""
    return list(dict.fromkeys(protocol_words(evaluation.metrics) for evaluation in evaluations))


def baselines(evaluations: Sequence[Evaluation]) -> list[tuple[str, dict[str, Any]]]:
    """The different box-shape baselines, each with words for it."""
    found = [e.metrics["box_shape_baseline"] for e in evaluations if e.metrics.get("box_shape_baseline")]
    distinct = [baseline for number, baseline in enumerate(found) if baseline not in found[:number]]
    words = "picture size and length alone"
    return [(words if len(distinct) == 1 else f"{words} ({b['videos']} videos)", b) for b in distinct]


def warnings(evaluations: Sequence[Evaluation], same_data: bool) -> Iterator[str]:
    """What a reader must know before believing or comparing the numbers.

    `same_data` is False when the data set has changed since a run used it.
    """
    if len(protocols(evaluations)) > 1:
        yield "These evaluations were measured in different ways; compare them with care."
    if len({frozenset(e.scores.ids) for e in evaluations}) > 1:
        yield "These evaluations did not test the same videos."
    for e in evaluations:
        if seen := (e.metrics.get("protocol") or {}).get("seen_in_training"):
            yield f"{e.label} was trained on {seen} of the videos that it was tested on."
        baseline = e.metrics.get("box_shape_baseline")
        if baseline and baseline["interval"][1] >= e.metrics["interval"][0]:
            yield (
                f"{e.label} is not clearly better than a guess from picture size and length alone "
                f"({percent(baseline['accuracy'])} %): it may have learnt those."
            )
    if not same_data:
        yield "The data set has changed since some of these runs; its pictures and counts are today's."


def log_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a training log; a last line that was not finished is left out."""
    rows = []
    try:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if {"step", "loss", "accuracy"} <= row.keys():
                rows.append(row)
    except (OSError, ValueError):
        pass
    return rows
