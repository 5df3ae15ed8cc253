"""The report: one HTML file that opens offline, with the numbers, figures and pictures of finished evaluations.

Needs matplotlib and jinja2 (the extra `report`); only `write_report` imports them.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn.errors import MissingExtra
from stmn.report import words as report_words
from stmn.report.contents import (
    Contents,
    baselines,
    check_classes,
    class_shares,
    column_titles,
    confused,
    papers_numbers,
    protocols,
)  # fmt: skip
from stmn.report.gains import Gains, of_the_gates
from stmn.report.paper import published
from stmn.report.words import printable
from stmn.runtime.files import atomic_write
from stmn.store.format.read import Store

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE = "report.html.jinja"
#: colours of series in the style sheet
COLOURS = 8
#: functions of `report_words` that templates call as filters
FILTERS = ("percent", "points", "chances", "moment", "duration", "bare")


def check_extra() -> None:
    """Raise `MissingExtra` when matplotlib or jinja2 is not installed."""
    for package in ("matplotlib", "jinja2"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtra("the report", package, "report") from error


def environment() -> "Environment":
    """What the pages are made in. Every name is escaped: classes, videos and runs may be called anything."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("stmn.report", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=printable,
    )  # fmt: skip
    made.filters |= {name: getattr(report_words, name) for name in FILTERS}
    made.globals |= {"versions": report_words.versions(), "made": datetime.now().timestamp()}
    return made


def write_page(path: Path, html: str) -> None:
    """Write a page, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")


def write_report(path: Path, contents: Contents, store: Store) -> None:
    """Write the report, whole or not at all.

    Raises `MissingExtra` without matplotlib or jinja2, and `DataError` when the evaluations know different classes.
    """
    check_extra()
    write_page(path, render(contents, store))


def render(contents: Contents, store: Store) -> str:
    """The page."""
    from stmn.report.samples import choose, samples, wheel

    check_classes(contents.evaluations)
    header, main = store.header, contents.main
    gained = of_the_gates(contents.evaluations)
    rows = choose(main.scores, contents.samples) if main else []
    paper = papers_numbers(header.dataset.get("name", ""), len(header.classes), contents)
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            contents=contents,
            header=header,
            classes=main.metrics["classes"] if main else header.classes,
            listed=len(header.splits.get(contents.split, {}).get("test", ())),
            protocols=protocols(contents.evaluations),
            baselines=baselines(contents.evaluations),
            confused=[confused(evaluation.metrics) for evaluation in contents.evaluations],
            figures=(figures(contents, gained) if main else {}) | training_figure(contents),
            gains=gained,
            paper=paper,
            published=published(header.dataset["name"]) if paper else [],
            samples=samples(store, main.scores, [e.scores for e in contents.evaluations], rows) if main else [],
            wheel=wheel(),
            colours=COLOURS,
            idt=any(evaluation.role == "idt" for evaluation in contents.evaluations),
        )
    )


def figures(contents: Contents, gained: Gains | None) -> dict[str, Any]:
    """The page's figures as <svg> elements, and what it says of them; `curves` is None when no training is known."""
    import numpy as np

    from stmn.report.figures import drawing as draw
    from stmn.report.figures.classes import class_figure
    from stmn.report.figures.curves import calibration_figure

    evaluations = contents.evaluations
    labels = [printable(evaluation.label) for evaluation in evaluations]
    titles = [printable(title) for title in column_titles(evaluations)]
    shares = [
        draw.Share(label, e.metrics["accuracy"], low, high, number)
        for number, (e, label) in enumerate(zip(evaluations, labels, strict=True))
        for low, high in [e.metrics["interval"]]
    ]
    for words, baseline in baselines(evaluations):
        low, high = baseline["interval"]
        shares.append(draw.Share(words, baseline["accuracy"], low, high, None))
    names = evaluations[0].metrics["classes"]
    classes = [printable(name) for name in names]
    matrices = [np.array(e.metrics["confusion"]) for e in evaluations]
    by_class = np.array([class_shares(matrix) for matrix in matrices])
    order, difference = list(range(len(classes))), None
    if gained:
        order = gained.order(names)
        by_name = {item.name: item.gain for item in gained.classes}
        difference = ("gates − late fusion", np.array([by_name.get(names[number], np.nan) for number in order]))
    return {
        "intervals": draw.interval_figure(shares, 1 / len(classes), "f-intervals"),
        "confusions": [draw.confusion_figure(m, classes, f"f-confusion-{n}") for n, m in enumerate(matrices)],
        "classes": class_figure([classes[n] for n in order], by_class[:, order], titles, "f-classes", difference),
        "calibration": calibration_figure(
            [e.scores for e in evaluations],
            [e.metrics["calibration_error"] for e in evaluations],
            titles,
            "f-calibration",
        ),
        "numbered": len(classes) <= draw.NUMBERED,
    }


def training_figure(contents: Contents) -> dict[str, Any]:
    """The curves, and what the page says of them."""
    from stmn.report.figures.curves import POINTS, Curve, curves_figure

    curves = [
        Curve(printable(training.label), training.rows, series)
        for training, series in zip(contents.trainings, training_series(contents), strict=True)
        if training.rows
    ]
    return {
        "thinned": any(len(curve.rows) > POINTS for curve in curves),
        "curves": curves_figure(curves, "f-curves") if curves else None,
    }


def training_series(contents: Contents) -> list[int]:
    """A colour number for each training: that of the evaluation which tested its model alone, else one of its own."""
    tested = {e.tested[0]: number for number, e in enumerate(contents.evaluations) if len(e.tested) == 1}
    free = iter(range(len(contents.evaluations), len(contents.evaluations) + len(contents.trainings)))
    return [tested[t.fingerprint] if t.fingerprint in tested else next(free) for t in contents.trainings]
