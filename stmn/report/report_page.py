"""The report's page: numbers, figures and sample videos of finished evaluations."""

from pathlib import Path
from typing import Any

import numpy as np

from stmn.evaluation.kinds import holds_logits
from stmn.report import notes
from stmn.report.contents import Contents, Evaluation
from stmn.report.gains import Gains, compute_gate_gains, compute_stream_gains, list_class_accuracies
from stmn.report.page import check_extra, write_page
from stmn.report.paper import list_paper_accuracies
from stmn.report.samples import choose_samples, draw_flow_wheel, load_samples
from stmn.report.words import describe_splits, replace_unprintable
from stmn.store.format.read import Store


def write_report(path: Path, contents: Contents, store: Store) -> None:
    """Write the report, complete or not at all.

    Args:
        path: the HTML file.
        contents: everything that the report shows.
        store: the data set, for its description and the sample videos.

    Raises:
        MissingExtra: matplotlib or jinja2 is not installed.
        DataError: a listed video, or a picture of one, can't be read.
    """
    check_extra()
    evaluations, main, header = contents.evaluations, contents.main, store.header
    # only evaluations of the same videos are compared
    alike = [e for e in evaluations if main and set(e.scores.ids) == set(main.scores.ids)]
    gains, stream_gains = compute_gate_gains(alike), compute_stream_gains(alike)
    single_streams = sum(evaluation.role in ("appearance", "motion") for evaluation in alike)
    limits = [found.overall.test_limit for found in (stream_gains, gains) if found and found.overall.test_limit]
    rows = choose_samples(main.scores, contents.samples) if main else []
    paper = notes.find_paper_accuracies(header.dataset.get("name", ""), len(header.classes), contents)
    write_page(
        path,
        "report.html.jinja",
        contents=contents,
        header=header,
        classes=main.metrics["classes"] if main else header.classes,
        parts=notes.list_parts(evaluations),
        compared_part=notes.list_parts(alike),
        of_splits=describe_splits(contents.splits),
        videos=notes.count_videos(evaluations, store),
        protocols=notes.list_protocols(evaluations),
        baselines=notes.list_baselines(evaluations),
        confusions=[notes.list_confusions(evaluation.metrics) for evaluation in evaluations],
        figures=(_draw_figures(evaluations, gains) if main else {}) | _draw_training(contents) | _draw_inside(contents),
        gains=gains,
        stream_gains=stream_gains,
        single_streams=single_streams,
        stream_words="the best single stream" if single_streams > 1 else "the only single stream that was tested",
        limits=[f"{limit}." for limit in dict.fromkeys(limits)],
        fused=next((e for e in reversed(alike) if e.role == "fused"), None),
        paper=paper,
        paper_accuracies=list_paper_accuracies(header.dataset["name"]) if paper else [],
        samples=load_samples(store, main.scores, [e.scores for e in evaluations], rows) if main else [],
        wheel=draw_flow_wheel(),
        uncertain=[e.label for e in evaluations if not holds_logits(e.scores.protocol)],
        few_classes=not main or main.metrics["top5"] is None,
    )


def _draw_figures(evaluations: list[Evaluation], gains: Gains | None) -> dict[str, Any]:
    """The figures of evaluations as <svg> elements, and facts about them for the page."""
    from stmn.report.figures.calibration import CalibrationPanel, draw_calibration
    from stmn.report.figures.classes import draw_class_accuracies
    from stmn.report.figures.confusion import NUMBERED, draw_confusion
    from stmn.report.figures.intervals import AccuracyInterval, draw_intervals

    titles = [replace_unprintable(title) for title in notes.list_titles(evaluations)]
    intervals = [
        AccuracyInterval(replace_unprintable(e.label), e.metrics["accuracy"], e.metrics["interval"], number)
        for number, e in enumerate(evaluations)
    ]
    intervals += [
        AccuracyInterval(words, baseline["accuracy"], baseline["interval"], None)
        for words, baseline in notes.list_baselines(evaluations)
    ]
    names = evaluations[0].metrics["classes"]
    classes = [replace_unprintable(name) for name in names]
    by_class = np.array([list_class_accuracies(e.metrics) for e in evaluations])
    order, gate_gains = list(range(len(classes))), None
    if gains:
        order = gains.sort_classes(names)
        by_name = {item.name: item.gain for item in gains.classes}
        gate_gains = ("gain by gates", np.array([by_name.get(names[number], np.nan) for number in order]))
    return {
        "intervals": draw_intervals(intervals, 1 / len(classes), "f-intervals"),
        "confusions": [
            draw_confusion(np.array(e.metrics["confusion"]), classes, f"f-confusion-{number}")
            for number, e in enumerate(evaluations)
        ],
        "classes": draw_class_accuracies(
            [classes[number] for number in order], by_class[:, order], titles, "f-classes", gate_gains
        ),
        "calibration": draw_calibration(
            [
                CalibrationPanel(e.scores, e.metrics["calibration_error"], title, number)
                for number, (e, title) in enumerate(zip(evaluations, titles, strict=True))
                if e.metrics["calibration_error"] is not None
            ],
            "f-calibration",
        ),
        "numbered": len(classes) <= NUMBERED,
    }


def _draw_training(contents: Contents) -> dict[str, Any]:
    """The training curves, None if there are none, and whether they show every point."""
    from stmn.report.figures.curves import POINTS, Curve, draw_curves

    curves = [
        Curve(replace_unprintable(training.label), training.rows, series)
        for training, series in zip(contents.trainings, _choose_series(contents), strict=True)
        if training.rows
    ]
    return {
        "thinned": any(len(curve.rows) > POINTS for curve in curves),
        "curves": draw_curves(curves, "f-curves") if curves else None,
    }


def _draw_inside(contents: Contents) -> dict[str, Any]:
    """The figures about the inside of a network; None where there is nothing to draw."""
    from stmn.report.figures.inside import draw_filters, draw_focus, draw_gradients

    if contents.inside is None:
        return {"focus": None, "gradients": None, "filters": None}
    found = contents.inside.found
    return {
        "focus": draw_focus(found.focus, "f-focus") if contents.inside.rival else None,
        "gradients": draw_gradients(found, "f-gradients"),
        "filters": draw_filters(found.filters, "f-filters") if found.filters else None,
    }


def _choose_series(contents: Contents) -> list[int]:
    """A series for each training: that of the evaluation that tested only its model, or else one of its own."""
    tested = {e.tested[0]: number for number, e in enumerate(contents.evaluations) if len(e.tested) == 1}
    free = iter(range(len(contents.evaluations), len(contents.evaluations) + len(contents.trainings)))
    return [tested[t.fingerprint] if t.fingerprint in tested else next(free) for t in contents.trainings]
