"""The page of a comparison: one HTML file that opens offline, in the report's style."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stmn.report.comparison import Row, differences_in_words, stream_names
from stmn.report.page import COLOURS, check_extra, environment, write_page
from stmn.report.words import printable

TEMPLATE = "compare.html.jinja"


def write_comparison(path: Path, rows: Sequence[Row], title: str) -> None:
    """Write the page, whole or not at all. Raises `MissingExtra` without matplotlib or jinja2."""
    check_extra()
    html = (
        environment()
        .get_template(TEMPLATE)
        .render(
            rows=rows,
            title=title,
            streams=stream_names(rows),
            words=[differences_in_words(row) for row in rows],
            figures=figures(rows),
            colours=COLOURS,
        )
    )
    write_page(path, html)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Intervals of all, each class of all, and what each but the first gains in each class."""
    import numpy as np

    from stmn.report.contents import class_shares
    from stmn.report.figures import drawing as draw
    from stmn.report.figures.classes import class_figure, difference_figure

    labels = [printable(row.evaluation.label) for row in rows]
    shares = [
        draw.Share(label, row.metrics["accuracy"], low, high, number)
        for number, (row, label) in enumerate(zip(rows, labels, strict=True))
        for low, high in [row.metrics["interval"]]
    ]
    names = rows[0].metrics["classes"]
    last = rows[-1].against
    order = last.order(names) if last else list(range(len(names)))
    classes = [printable(names[number]) for number in order]
    by_class = np.array([class_shares(np.array(row.metrics["confusion"])) for row in rows])[:, order]
    return {
        "intervals": draw.interval_figure(shares, 1 / len(names), "f-intervals"),
        "classes": class_figure(classes, by_class, labels, "f-classes"),
        "differences": difference_figure(
            classes, [values - by_class[0] for values in by_class[1:]], labels[1:], labels[0], "f-differences"
        ),
    }
