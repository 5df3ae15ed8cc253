"""The page of a comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stmn.evaluation.agreement import describe_differences
from stmn.report.comparison import ComparedEvaluation, describe_tests, list_streams
from stmn.report.gains import list_class_accuracies
from stmn.report.page import check_extra, write_page
from stmn.report.words import replace_unprintable


def write_comparison(path: Path, compared: Sequence[ComparedEvaluation], title: str) -> None:
    """Write the page, complete or not at all.

    Args:
        path: the HTML file.
        compared: evaluations compared with the first.
        title: title of the page.

    Raises:
        MissingExtra: matplotlib or jinja2 is not installed.
    """
    check_extra()
    write_page(
        path,
        "compare.html.jinja",
        compared=compared,
        title=title,
        stream_names=list_streams(compared),
        differences=[describe_differences(item.differences) for item in compared],
        tests=describe_tests(compared),
        notes=list(dict.fromkeys(note for item in compared for note in item.metrics["notes"])),
        figures=_draw_figures(compared),
    )


def _draw_figures(compared: Sequence[ComparedEvaluation]) -> dict[str, Any]:
    """The figures as <svg> elements: intervals, accuracy per class, and each evaluation's gains per class."""
    from stmn.report.figures.classes import draw_class_accuracies, draw_class_gains
    from stmn.report.figures.intervals import AccuracyInterval, draw_intervals

    labels = [replace_unprintable(item.evaluation.label) for item in compared]
    intervals = [
        AccuracyInterval(label, item.metrics["accuracy"], item.metrics["interval"], number)
        for number, (item, label) in enumerate(zip(compared, labels, strict=True))
    ]
    names = compared[0].metrics["classes"]
    last = compared[-1].gains
    order = last.sort_classes(names) if last else list(range(len(names)))
    classes = [replace_unprintable(names[number]) for number in order]
    by_class = np.array([list_class_accuracies(item.metrics) for item in compared])[:, order]
    gains = [accuracies - by_class[0] for accuracies in by_class[1:]]
    return {
        "intervals": draw_intervals(intervals, 1 / len(names), "f-intervals"),
        "classes": draw_class_accuracies(classes, by_class, labels, "f-classes"),
        "gains": draw_class_gains(classes, gains, labels[1:], labels[0], "f-gains"),
    }
