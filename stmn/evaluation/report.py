"""The report: one HTML file that opens offline, with the numbers, figures and pictures of finished evaluations.

Needs matplotlib and jinja2 (the extra `report`); only `write_report` imports them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stmn.errors import DataError, MissingExtra
from stmn.evaluation.scores import Scores
from stmn.files import whole_file
from stmn.store.reader import Store

TEMPLATE = "report.html.jinja"
PACKAGES = ("stmn", "torch", "timm")
#: pairs of classes that are listed beside a confusion matrix too large to read
CONFUSED = 12


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
    """Everything a report is made of; evaluations in the order of the page, the last one picks the sample videos."""

    title: str
    split: str
    evaluations: list[Evaluation]
    trainings: list[Training]
    steps: list[Step]
    #: what a reader must know before believing the numbers
    warnings: list[str] = field(default_factory=list)
    samples: int = 8
    seed: int = 0


def check_extra() -> None:
    """Raise `MissingExtra` when matplotlib or jinja2 is not installed."""
    for package in ("matplotlib", "jinja2"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtra("the report", package, "report") from error


def write_report(path: Path, contents: Contents, store: Store) -> None:
    """Write the report, whole or not at all.

    Raises `MissingExtra` without matplotlib or jinja2, and `DataError` when the evaluations know different classes.
    """
    check_extra()
    html = render(contents, store)
    with whole_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")


def render(contents: Contents, store: Store) -> str:
    """The page. Every name in it is escaped: classes, videos and runs may be called anything."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from stmn.evaluation.report_samples import choose, samples, wheel

    check_classes(contents.evaluations)
    first, last = contents.evaluations[0], contents.evaluations[-1]
    scores = [evaluation.scores for evaluation in contents.evaluations]
    rows = choose(last.scores, contents.samples, contents.seed)
    environment = Environment(
        loader=PackageLoader("stmn", "evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=printable,
    )  # fmt: skip
    environment.filters |= {"percent": percent, "moment": moment, "duration": duration, "bare": bare}
    listed = len(store.header.splits.get(contents.split, {}).get("test", ()))
    return environment.get_template(TEMPLATE).render(
        contents=contents,
        header=store.header,
        classes=first.metrics["classes"],
        listed=listed,
        protocols=protocols(contents.evaluations),
        baselines=baselines(contents.evaluations),
        confused=[confused(evaluation.metrics) for evaluation in contents.evaluations],
        figures=figures(contents),
        samples=samples(store, scores, rows) if rows else [],
        wheel=wheel(),
        idt=any("idt" in s.protocol for s in scores),
        versions=versions(),
        made=datetime.now().timestamp(),
    )


def check_classes(evaluations: Sequence[Evaluation]) -> None:
    """Raise `DataError` when evaluations know different classes: they can't share a figure."""
    first = evaluations[0]
    for other in evaluations[1:]:
        if other.metrics["classes"] != first.metrics["classes"]:
            raise DataError(f"{other.name} knows other classes than {first.name}; report them apart")


def figures(contents: Contents) -> dict[str, Any]:
    """The page's figures as <svg> elements, and what it says of them; `curves` is None when no training is known."""
    import numpy as np

    from stmn.evaluation import report_figures as draw

    shares = [
        draw.Share(printable(e.label), e.metrics["accuracy"], low, high, number)
        for number, e in enumerate(contents.evaluations)
        for low, high in [e.metrics["interval"]]
    ]
    for words, baseline in baselines(contents.evaluations):
        low, high = baseline["interval"]
        shares.append(draw.Share(words, baseline["accuracy"], low, high, None))
    classes = [printable(name) for name in contents.evaluations[0].metrics["classes"]]
    matrices = [np.array(e.metrics["confusion"]) for e in contents.evaluations]
    by_class = np.array([class_shares(matrix) for matrix in matrices])
    labels = [printable(evaluation.label) for evaluation in contents.evaluations]
    curves = [
        draw.Curve(printable(training.label), training.rows, series)
        for training, series in zip(contents.trainings, training_series(contents), strict=True)
        if training.rows
    ]
    return {
        "intervals": draw.interval_figure(shares, 1 / len(classes), "f-intervals"),
        "confusions": [draw.confusion_figure(m, classes, f"f-confusion-{n}") for n, m in enumerate(matrices)],
        "classes": draw.class_figure(classes, by_class, labels, "f-classes"),
        "thinned": any(len(curve.rows) > draw.POINTS for curve in curves),
        "curves": draw.curves_figure(curves, "f-curves") if curves else None,
        "looked": any("validation_error" in row for curve in curves for row in curve.rows),
        "numbered": len(classes) <= draw.NUMBERED,
        "colours": len(draw.SERIES),
    }


def training_series(contents: Contents) -> list[int]:
    """A colour number for each training: that of the evaluation which tested its model alone, else one of its own."""
    tested = {e.tested[0]: number for number, e in enumerate(contents.evaluations) if len(e.tested) == 1}
    free = iter(range(len(contents.evaluations), len(contents.evaluations) + len(contents.trainings)))
    return [tested[t.fingerprint] if t.fingerprint in tested else next(free) for t in contents.trainings]


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


def protocol_words(metrics: dict[str, Any]) -> str:
    """How a number was measured."""
    return str((metrics.get("protocol") or {}).get("words", "not recorded"))


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


def versions() -> dict[str, str]:
    """The versions that made this page."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def bare(name: str) -> str:
    """A run's name without its fingerprint, a file's without its folders: "fused-multiply"."""
    path = Path(name)
    if path.suffix in (".safetensors", ".pth"):
        name = path.parent.name if path.stem in ("model", "scores") and path.parent.name else path.stem
    return re.sub(r"-[0-9a-f]{8}$", "", name)


def printable(value: Any) -> Any:
    """Text without what no page can show: control characters and halves of characters (names that are not UTF-8)."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", value)


def percent(share: float) -> str:
    """ "94.2" for 0.942."""
    return f"{100 * share:.1f}"


def moment(seconds: float | None) -> str:
    """A date and time of this machine's zone, from seconds since the epoch."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %Z") if seconds else "unknown"


def duration(seconds: float | None) -> str:
    """ "3 min 6 s"."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min" if seconds >= 3600 else f"{minutes} min {int(seconds % 60)} s"
