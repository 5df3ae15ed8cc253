"""`stmn run RECIPE`: the whole chain."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stmn.cli.guard import guarded
from stmn.runtime import torchrun

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(
    epilog="Examples:  stmn run recipes/demo.toml   |   stmn run ut_interaction --data-root DIR --until motion"
)
def run(
    recipe: Annotated[str, typer.Argument(help="a recipe's file, or its name (stmn recipes list)")],
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", "-w", help="folder with data/ and runs/", show_default="."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="folder of the videos, for the recipe's prepare stage", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="prepared data set, in place of the recipe's", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="stop after the stage with this id", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda", show_default="auto")] = None,
    force: Annotated[bool, typer.Option("--force", help="do every stage again even when up to date")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Run all stages of a recipe; skip what is up to date, continue what was interrupted."""
    with guarded(debug):
        from stmn.cli.display import Display
        from stmn.recipe.chain import Overrides, run_recipe
        from stmn.recipe.load import load_recipe
        from stmn.settings import load_settings
        from stmn.workspace import Workspace

        settings = load_settings(workspace=workspace, device=device)
        overrides = Overrides(settings.defaults, data_root, data)
        space = Workspace(settings.workspace)
        done = list(run_recipe(load_recipe(recipe), space, Display(), overrides, settings.device, until, force))
        if not torchrun.rank():
            show_results(done)


def show_results(done: list[tuple[Any, Any]]) -> None:
    """The table of accuracies, and where the files are."""
    from rich.markup import escape
    from rich.table import Table

    from stmn.cli.display import console

    measured = [
        (stage.id, run.results) for stage, run in done if "accuracy" in run.results and "interval" in run.results
    ]
    if measured:
        first = measured[0][1]
        table = Table(title=escape(f"Accuracy on {first['videos']} test videos"), title_justify="left")
        table.add_column("")
        table.add_column("accuracy", justify="right")
        table.add_column("95 % interval", justify="right")
        table.add_row("chance", f"{100 * first['chance']:.1f} %", "")
        if baseline := next((r["box_shape_baseline"] for _, r in measured if r.get("box_shape_baseline")), None):
            table.add_row("box shapes alone", f"{100 * baseline['accuracy']:.1f} %", span(baseline["interval"]))
        for name, results in measured:
            table.add_row(escape(name), f"[bold]{100 * results['accuracy']:.1f} %[/]", span(results["interval"]))
        console.print(table)
    rows = [
        (stage.id, kind, run.output(kind))
        for stage, run in done
        for kind in ("model", "scores", "export", "report")
        if kind in run.record["outputs"]
    ]
    for stage_id, kind, path in rows:
        typer.echo(f"{kind:<7} {stage_id:<18} {path}")


def span(interval: list[float]) -> str:
    """`[49.9, 59.6]` per cent."""
    return rf"\[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
