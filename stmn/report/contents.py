"""The contents of a page as typed objects: evaluations, trainings and stages, read from the runs' records."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stmn.errors import DataError
from stmn.evaluation.agreement import Source
from stmn.evaluation.metrics import measure
from stmn.evaluation.scores import Scores, load_scores
from stmn.report.inside import InsideSection
from stmn.report.paper import UNKNOWN, NetworkSummary, Role, find_role
from stmn.report.sources import (
    RunGraph,
    find_models_role,
    find_networks,
    find_run,
    label_evaluations,
    label_runs,
    read_metrics,
    read_training_log,
)
from stmn.report.words import shorten_path
from stmn.workspace import Input, Run, read_run

_UNKNOWN_SOURCE = Source()


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        label: its name on the page, different from all others.
        scores: its scores.
        metrics: the result of `measure` on them (with today's intervals, for older runs too), and its run's baseline.
        fingerprint: its run's fingerprint, or its file's.
        name: its run's name, or its file's.
        tested: fingerprints of the models that it tested.
        networks: the networks that it tested.
        source: the split and part whose videos were tested; empty if it was not checked against the data set.
    """

    label: str
    scores: Scores
    metrics: dict[str, Any]
    fingerprint: str
    name: str
    tested: tuple[str, ...] = ()
    networks: NetworkSummary = UNKNOWN
    source: Source = _UNKNOWN_SOURCE

    @property
    def role(self) -> Role:
        """Its kind among the paper's results."""
        return find_role(list(self.scores.streams), self.scores.protocol)


@dataclass(frozen=True)
class AllSplits:
    """An evaluation of all splits. Its metrics hold those of each split, and their mean."""

    label: str
    metrics: dict[str, Any]
    fingerprint: str
    name: str
    role: Role = "other"
    networks: NetworkSummary = UNKNOWN


@dataclass(frozen=True)
class Training:
    """A training run's log: rows with step, loss, accuracy, and sometimes rate and validation_error."""

    label: str
    fingerprint: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class StageRecord:
    """A stage that led to the numbers: its name, when and how long it ran, its options, and versions of packages."""

    label: str
    verb: str
    name: str
    fingerprint: str
    finished: float | None
    seconds: float | None
    options: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """Everything that a report shows.

    Attributes:
        title: the page's title.
        splits: the splits of the evaluations; empty if all evaluations are of all splits.
        evaluations: evaluations of one split, in the page's order.
        trainings: the trainings that led to them.
        stages: all stages that led to them, causes before effects.
        warnings: what a reader must know before trusting the numbers.
        all_splits: evaluations of all splits.
        table: the result of the stage `table`; None if there is none.
        recipes: the recipes that made the numbers; empty for single commands.
        fingerprint: the report's own.
        samples: how many test videos are shown.
        inside: the measurements inside the network of `main`; None if it has no gates.
    """

    title: str
    splits: list[str]
    evaluations: list[Evaluation]
    trainings: list[Training]
    stages: list[StageRecord]
    warnings: list[str] = field(default_factory=list)
    all_splits: list[AllSplits] = field(default_factory=list)
    table: dict[str, Any] | None = None
    recipes: list[str] = field(default_factory=list)
    fingerprint: str = ""
    samples: int = 8
    inside: InsideSection | None = None

    @property
    def main(self) -> Evaluation | None:
        """The evaluation whose mistakes are shown: the last one of a gated network, or else the last of all."""
        gated = [evaluation for evaluation in self.evaluations if evaluation.role == "fused"]
        shown = gated or self.evaluations
        return shown[-1] if shown else None


def load_evaluations(
    inputs: Sequence[Input], graph: RunGraph, sources: Sequence[Source] | None = None
) -> list[Evaluation]:
    """Load scores and their metrics. Scores that don't belong to a run are measured here.

    Args:
        sources: the data set, split and part of each, if they have been checked.

    Raises:
        DataError: a file holds no valid scores.
        CheckpointError: a file is damaged.
    """
    scores = [load_scores(item.path) for item in inputs]
    runs = [find_run(item) or Run(item.path.parent) for item in inputs]
    labels = label_evaluations(runs, [item.name for item in inputs], graph)
    return [
        Evaluation(
            label=label,
            scores=part,
            metrics=read_metrics(run) | measure(part) | {"protocol": part.protocol},
            fingerprint=item.fingerprint,
            name=shorten_path(item.name),
            tested=tuple(cause.record["fingerprint"] for cause in graph.find_causes(run)),
            networks=find_networks(run, graph),
            source=source,
        )
        for label, part, item, run, source in zip(
            labels, scores, inputs, runs, sources or [_UNKNOWN_SOURCE] * len(inputs), strict=True
        )
    ]


def load_all_splits(inputs: Sequence[Input], graph: RunGraph) -> list[AllSplits]:
    """Load evaluations of all splits.

    Raises:
        DataError: the metrics of one are missing or damaged.
    """
    runs = [read_run(item.path.parent) or Run(item.path.parent) for item in inputs]
    models = [next((split["of"] for split in run.results.get("splits", {}).values()), [run.name]) for run in runs]
    labels = label_evaluations(runs, [run.name for run in runs], graph, models)
    found = []
    for item, run, names, label in zip(inputs, runs, models, labels, strict=True):
        metrics = read_metrics(run)
        if not metrics.get("splits"):
            raise DataError(f"{item.path}: missing or damaged; run the same evaluate command again with --force")
        role = find_models_role([model for name in names if (model := graph.find_run(name))])
        found.append(AllSplits(label, metrics, item.fingerprint, run.name, role, find_networks(run, graph)))
    return found


def load_trainings(runs: Sequence[Run]) -> list[Training]:
    """The runs that have a training log."""
    logs = [(run, rows) for run in runs if (rows := read_training_log(run))]
    labels = label_runs([run for run, _ in logs])
    return [Training(label, run.record["fingerprint"], rows) for label, (run, rows) in zip(labels, logs, strict=True)]


def describe_stage(run: Run, root: Path) -> StageRecord:
    """A run's record for the page. Paths are cut to what is useful on another machine; `root` is the workspace."""
    record = run.record
    options = {name: value for name, value in record.get("options", {}).items() if value not in (None, [], {})}
    return StageRecord(
        label=record.get("stage") or "",
        verb=record.get("verb", "?"),
        name=run.name,
        fingerprint=record.get("fingerprint", ""),
        finished=record.get("finished"),
        seconds=record.get("seconds"),
        options={name: _describe_option(value, root) for name, value in options.items()},
        versions=record.get("versions") or ({"stmn": record["stmn"]} if "stmn" in record else {}),
    )


def _describe_option(value: Any, root: Path) -> str:
    """An option's value as text; paths are relative to the workspace, or cut short."""
    if isinstance(value, list):
        return ", ".join(_describe_option(item, root) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_describe_option(item, root)}" for key, item in value.items())
    if not isinstance(value, str):
        return json.dumps(value)
    for folder in (root, root.resolve()):
        if Path(value).is_relative_to(folder):
            return str(Path(value).relative_to(folder))
    return f".../{shorten_path(value)}" if Path(value).is_absolute() else value
