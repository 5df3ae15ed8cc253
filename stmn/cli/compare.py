"""`stmn compare`: several evaluations side by side, in one table and one page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmn.cli.guard import guarded

if TYPE_CHECKING:
    from stmn.report.comparison import Row

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(
    epilog="Examples:  stmn compare test-late-fusion-1a2b test-9f8e   |   stmn compare a.safetensors b.safetensors "
    "--page compare.html"
)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="two or more evaluations by name or folder, or scores files; the first is the rule"),
    ],
    page: Annotated[Path | None, typer.Option(help="write one HTML page too, which opens offline")] = None,
    title: Annotated[str | None, typer.Option(help="title of the page", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a page that is there")] = False,
    workspace: Annotated[Path | None, typer.Option("--workspace", "-w", help="folder with data/ and runs/")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Set evaluations of the same videos side by side: accuracy, each stream, and McNemar's test against the first."""
    with guarded(debug):
        from stmn.cli.scores import check_new
        from stmn.errors import UsageError
        from stmn.report.comparison import set_beside
        from stmn.report.sources import Chain, evaluations_of
        from stmn.settings import load_settings
        from stmn.workspace import Workspace

        if len(runs) < 2:
            raise UsageError("name two evaluations or more")
        if page:
            check_new(page, force)
        place = Workspace(load_settings(workspace=workspace).workspace)
        found = [place.find_input(name, "scores") for name in runs]
        rows = set_beside(evaluations_of(found, Chain(place.runs())))
        if page:
            from stmn.report.comparison_page import write_comparison

            write_comparison(page, rows, title or f"{len(rows)} evaluations side by side")
        if as_json:
            typer.echo(json.dumps({"first": rows[0].evaluation.name, "runs": [row.as_json() for row in rows]}))
            return
        show(rows)
        if page:
            typer.echo(f"page: {page}")


def show(rows: "list[Row]") -> None:
    """Print the table and what differs in how the numbers were measured."""
    from rich.console import Console
    from rich.markup import escape

    from stmn.report.comparison import differences_in_words

    console = Console(highlight=False)
    shown, streams = fitting(rows, console)
    console.print(shown)
    metrics = rows[0].metrics
    console.print(
        f"{metrics['videos']} videos, {len(metrics['classes'])} classes, chance {100 * metrics['chance']:.1f} %; "
        f"intervals over {metrics['intervals_over']}; p: McNemar's exact test against the first",
        soft_wrap=True,
    )
    for row in rows:
        if not streams and len(row.metrics["streams"]) > 1:
            parts = ", ".join(f"{name} {100 * share:.1f} %" for name, share in row.metrics["streams"].items())
            console.print(f"{escape(row.evaluation.label)}: {escape(parts)}", soft_wrap=True)
        if row.differs:
            console.print(f"* {escape(row.evaluation.label)}: {escape(differences_in_words(row))}", soft_wrap=True)


def fitting(rows: "list[Row]", console: Any) -> tuple[Any, bool]:
    """The table, without the differences' intervals or the streams where the terminal is too narrow for them.

    And whether the streams are in it.
    """
    from rich.measure import Measurement

    for intervals, streams in ((True, True), (False, True), (False, False)):
        made = table(rows, intervals, streams)
        if Measurement.get(console, console.options.update(width=1000), made).minimum <= console.width:
            break
    return made, streams


def table(rows: "list[Row]", intervals: bool, with_streams: bool) -> Any:
    """One line an evaluation, in %."""
    from rich.markup import escape
    from rich.table import Table

    from stmn.report.comparison import stream_names
    from stmn.report.words import chances, percent, points

    streams = stream_names(rows) if with_streams else []
    many = len(rows[0].metrics["classes"]) > 5
    made = Table(box=None, pad_edge=False)
    made.add_column("evaluation, %", overflow="fold", min_width=14)
    heads = ["top-1", "95 % interval", *(["top-5"] if many else []), "classes", *streams, "points", "p"]
    for head in heads:
        made.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        metrics = row.metrics
        low, high = metrics["interval"]
        cells = [f"[bold]{percent(metrics['accuracy'])}[/]", f"{percent(low)} to {percent(high)}"]
        cells += [percent(metrics["top5"])] if many else []
        cells += [percent(metrics["mean_class_accuracy"])]
        cells += [percent(metrics["streams"][name]) if name in metrics["streams"] else "-" for name in streams]
        cells += ["-", "-"]
        if row.against:
            whole = row.against.whole
            spread = f" \\[{', '.join(map(points, whole.interval))}]" if intervals else ""
            cells[-2:] = [points(whole.difference) + spread, chances(whole.p_value)]
        made.add_row(escape(row.evaluation.label) + (" *" if row.differs else ""), *cells)
    return made
