"""`stmn compare`: several evaluations of the same videos, as one table and one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, answer_json, answers
from stmn.cli.parameters import Json, Overwrite, WorkspacePath, check_new, open_workspace
from stmn.errors import count_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from stmn.report.comparison import ComparedEvaluation

app = make_app()


@command(
    app,
    examples=(
        "stmn compare test-late-fusion-1a2b test-9f8e",
        "stmn compare a.safetensors b.safetensors --page compare.html",
    ),
)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="two or more evaluations by name or folder, or scores files; the others are compared with the first",
        ),
    ],
    page: Annotated[Path | None, typer.Option(help="also write an HTML page that opens offline")] = None,
    title: Annotated[str | None, typer.Option(help="title of the page")] = None,
    workspace: WorkspacePath = None,
    force: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare evaluations of the same videos: accuracy, each stream, and a paired test against the first."""
    from stmn.errors import UsageError
    from stmn.report.comparison import compare_with_first
    from stmn.report.contents import load_evaluations
    from stmn.report.sources import RunGraph

    if len(runs) < 2:
        raise UsageError("compare: name at least two evaluations")
    if page:
        check_new(page, force)
    place = open_workspace(workspace)
    found = [place.find_input(name, "scores") for name in runs]
    compared = compare_with_first(load_evaluations(found, RunGraph(place.runs())))
    if page:
        from stmn.report.comparison_page import write_comparison

        write_comparison(page, compared, title or f"Comparison of {len(compared)} evaluations")
    if as_json:
        answer_json({"first": compared[0].evaluation.name, "runs": [item.as_json() for item in compared]})
        return
    _print_comparison(compared)
    if page:
        answer(f"page: {page}")


def _print_comparison(compared: "list[ComparedEvaluation]") -> None:
    """Print the table, and how the evaluations' protocols differ."""
    from stmn.evaluation.agreement import describe_differences
    from stmn.evaluation.metrics import describe_units
    from stmn.report.comparison import describe_tests

    console = answers()
    table, with_streams = _fit_table(compared, console)
    console.print(table)
    metrics = compared[0].metrics
    console.print(
        f"{count_of(metrics['videos'], 'video')}, {count_of(len(metrics['classes']), 'class', 'classes')}, "
        f"chance {100 * metrics['chance']:.1f} %; "
        f"intervals over {describe_units(metrics)}",
        soft_wrap=True,
    )
    for line in describe_tests(compared):
        console.print(line, soft_wrap=True)
    for note in dict.fromkeys(note for item in compared for note in item.metrics["notes"]):
        console.print(note, soft_wrap=True)
    for item in compared:
        label = item.evaluation.label
        if not with_streams and len(item.metrics["streams"]) > 1:
            parts = ", ".join(f"{name} {100 * share:.1f} %" for name, share in item.metrics["streams"].items())
            console.print(f"{label}: {parts}", soft_wrap=True)
        if item.differences:
            console.print(f"* {label}: {describe_differences(item.differences)}", soft_wrap=True)


def _fit_table(compared: "list[ComparedEvaluation]", console: "Console") -> "tuple[Table, bool]":
    """The table, and whether it has the streams.

    In a narrow terminal it drops the intervals of the differences, then the streams; then it breaks long labels, and
    last all lines.
    """
    for intervals, streams, label in ((True, True, 40), (False, True, 40), (False, False, 40), (False, False, 24)):
        table = _make_table(compared, intervals, streams, label)
        if console.measure(table, options=console.options.update(width=1000)).maximum <= console.width:
            return table, streams
    return _make_table(compared, False, False, None), False


def _make_table(
    compared: "list[ComparedEvaluation]", intervals: bool, with_streams: bool, label_width: int | None
) -> "Table":
    """One row per evaluation, in %.

    `intervals`: also those of the differences. `label_width`: longer labels are broken; None: all columns may be.
    """
    from rich.table import Table
    from rich.text import Text

    from stmn.report.comparison import list_streams
    from stmn.report.words import format_p_value, format_percent, format_points

    streams = list_streams(compared) if with_streams else []
    many = compared[0].metrics["top5"] is not None
    table = Table(box=None, pad_edge=False)
    table.add_column("evaluation, %", overflow="fold", max_width=label_width)
    heads = ["top-1", "95 % interval", *(["top-5"] if many else []), "per class", *streams, "points", "p"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=label_width is not None)
    for item in compared:
        metrics = item.metrics
        low, high = metrics["interval"]
        cells: list[str | Text] = [
            Text(format_percent(metrics["accuracy"]), "bold"),
            f"{format_percent(low)} to {format_percent(high)}",
        ]
        cells += [format_percent(metrics["top5"])] if many else []
        cells += [format_percent(metrics["mean_class_accuracy"])]
        cells += [format_percent(metrics["streams"][name]) if name in metrics["streams"] else "-" for name in streams]
        if item.gains:
            overall = item.gains.overall
            spread = f" [{', '.join(map(format_points, overall.interval))}]" if intervals else ""
            cells += [format_points(overall.difference) + spread, format_p_value(overall.p_value)]
        else:
            cells += ["-", "-"]
        table.add_row(item.evaluation.label + (" *" if item.differences else ""), *cells)
    return table
