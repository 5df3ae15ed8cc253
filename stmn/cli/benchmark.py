"""`stmn benchmark MODEL`: how fast this machine computes a model, in every runtime that can run it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer_json
from stmn.cli.parameters import Json, WorkspacePath, open_workspace

if TYPE_CHECKING:
    from rich.table import Table

    from stmn.stages.runtimes import Benchmark, Timing

app = make_app()


@command(app, examples=("stmn benchmark fused", "stmn benchmark fused --chunks 25 --videos 0 --json"))
def benchmark(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a model file, a run's folder, or a run's name")],
    chunks: Annotated[int, typer.Option(help="chunks of the video that is timed", min=1, max=1000)] = 5,
    repeats: Annotated[int, typer.Option(help="timed passes of each runtime", min=1, max=10_000)] = 5,
    videos: Annotated[
        int, typer.Option(help="test videos to classify for the accuracy, at most; 0 for none", min=0, max=100_000)
    ] = 100,
    workspace: WorkspacePath = None,
    as_json: Json = False,
) -> None:
    """Time a model on this machine's CPU: eager, compiled, as predict runs it, and exported; with accuracies."""
    from stmn.cli.console import answers
    from stmn.cli.display import Display
    from stmn.stages.runtimes import time_runtimes

    space = open_workspace(workspace)
    found = time_runtimes(space.find_model(model), space, chunks, repeats, videos, Display(as_json))
    if as_json:
        rows = [_as_json(timing) for timing in found.timings]
        answer_json(
            {"inputs": found.shapes, "threads": found.threads, "accuracy_videos": found.videos, "runtimes": rows}
        )
        return
    answers().print(_make_table(found))


def _as_json(timing: "Timing") -> dict[str, Any]:
    """One runtime as JSON."""
    if timing.problem:
        return {"name": timing.name, "problem": timing.problem}
    return {
        "name": timing.name,
        "milliseconds": timing.milliseconds,
        "passes_ms": [round(1000 * seconds, 3) for seconds in timing.seconds],
        "ready_s": timing.ready,
        "relative_difference": timing.difference,
        "bytes": timing.bytes,
        "accuracy": timing.accuracy,
    }


def _make_table(found: "Benchmark") -> "Table":
    """One row for each runtime that runs here."""
    from rich.table import Table

    shapes = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in found.shapes.items())
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    table = Table(title=f"{shapes}; {threads}", title_justify="left", box=None, pad_edge=False)
    table.add_column("runtime", no_wrap=True)
    for name in ("ms", "fastest", "ready s", "MB", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    if found.videos:
        table.add_column(f"% of {found.videos} videos", justify="right")
    for timing in found.timings:
        if timing.problem:
            continue
        row = [
            timing.name,
            f"{timing.milliseconds:.1f}",
            f"{1000 * min(timing.seconds):.1f}",
            f"{timing.ready:.1f}",
            "" if timing.bytes is None else f"{timing.bytes / 1e6:.1f}",
            f"{timing.difference:.0e}",
        ]
        table.add_row(*row, *([f"{timing.accuracy:.1f}"] if found.videos and timing.accuracy is not None else []))
    return table
