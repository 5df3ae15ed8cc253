"""`stmn run RECIPE`: all stages of a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer
from stmn.cli.parameters import DeviceName, Json, Rerun, Wait, WorkspacePath
from stmn.errors import count_of

if TYPE_CHECKING:
    from stmn.recipe.content import RecipeStage
    from stmn.workspace import Run

app = make_app()


@command(
    app,
    examples=(
        "stmn run recipes/demo.toml",
        "stmn run tables/table2_ucf101 --dry-run",
        "stmn run ut_interaction --data-root VIDEOS --until motion",
        "stmn run small --data-root VIDEOS --set motion.steps=800 --until motion",
    ),
)
def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="a file, or a name that stmn recipes list prints")],
    data_root: Annotated[
        Path | None, typer.Option(metavar="PATH", help="folder of the videos, for the recipe's prepare stage")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="NAME", help="prepared data set, instead of the recipe's")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="STAGE.KEY=VALUE",
            help="change the recipe; KEY=VALUE for all stages that have such a key; may be repeated",
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="ID", help="stop after this stage")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print what would be done, and an estimate of the time; run nothing")
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="with --dry-run: plan for this many processes of torchrun"),
    ] = None,
    workspace: WorkspacePath = None,
    device: DeviceName = None,
    force: Rerun = False,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Run all stages of a recipe. Stages that are up to date are skipped, interrupted ones resumed."""
    from stmn.cli.display import Display
    from stmn.errors import UsageError
    from stmn.recipe.chain import Overrides, run_recipe
    from stmn.recipe.load import load_recipe
    from stmn.runtime import torchrun
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    settings = load_settings(workspace=workspace, device=device)
    overrides = Overrides(settings.defaults, data_root, data)
    space, loaded = Workspace(settings.workspace), load_recipe(recipe, changes or ())
    if dry_run:
        from stmn.cli.dry_run import show_preview

        if not torchrun.rank():
            show_preview(loaded, space, overrides, settings.device, gpus or torchrun.size(), until, as_json)
        return
    if gpus is not None or as_json:
        raise UsageError("--gpus and --json belong to --dry-run; to train on several GPUs, use torchrun")
    done = list(run_recipe(loaded, space, Display(), overrides, settings.device, until, force, wait))
    if not torchrun.rank():
        print_results(done)


def print_results(done: list[tuple["RecipeStage", "Run"]]) -> None:
    """Print the table of methods, or else a table of accuracies per list of test videos; and where the files are."""
    from stmn.cli.console import answers

    for stage, run in done:
        if stage.uses == "table":
            _print_methods(run.results)
    swept = any(stage.axes for stage, _ in done)
    tables: dict[tuple[int, float], dict[str, dict[str, Any]]] = {}  # a recipe may have several data sets
    for stage, run in done:
        if "accuracy" in run.results and "interval" in run.results and not swept:
            tables.setdefault((run.results["videos"], run.results["chance"]), {})[stage.id] = run.results
    for measured in tables.values():
        answers().print(_make_table(measured))
    rows = [
        (kind, stage.id, run.output(kind))
        for stage, run in done
        for kind in ("model", "scores", "table", "markdown", "csv", "export", "report")
        if kind in run.record["outputs"] and not stage.axes
    ]
    width = max((len(stage_id) for _, stage_id, _ in rows), default=0)
    for kind, stage_id, path in rows:
        answer(f"{kind:<8} {stage_id:<{min(width, 18)}} {path}")


def _print_methods(table: dict[str, Any]) -> None:
    """Print the table of methods in 80 columns; its files have the rest."""
    from rich.table import Table
    from rich.text import Text

    from stmn.cli.console import answers
    from stmn.report.sweep_table import describe_caption, list_cells
    from stmn.runtime.names import printable

    console, compared = answers(), table["against"] is not None
    shown = Table(box=None, pad_edge=False)
    shown.add_column("", overflow="fold", ratio=1)
    keys = ["accuracy", "interval", "deviation", *(["difference", "alone", "other_alone", "p"] if compared else [])]
    names = ["%", "95 % interval", "sd", *(["diff.", "only this", "only other", "p"] if compared else [])]
    for name in names:
        shown.add_column(name, justify="right", width=5 if name in ("only this", "only other") else None)
    for row in table["rows"]:
        cells = list_cells(row)
        shown.add_row(Text(printable(row["name"])), *(cells[key] for key in keys))
    console.print(shown)
    for line in (describe_caption(table), *table["notes"]):
        console.print(Text(printable(line)))


def _make_table(measured: dict[str, dict[str, Any]]) -> Any:
    """Accuracies by stage id, below those of chance and of box shapes alone."""
    from rich.table import Table
    from rich.text import Text

    first = next(iter(measured.values()))
    table = Table(title=f"Accuracy on {count_of(first['videos'], 'test video')}", title_justify="left")
    table.add_column("")
    table.add_column("accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_row("chance", _percent(first["chance"]), "")
    if baseline := next((r["box_shape_baseline"] for r in measured.values() if r.get("box_shape_baseline")), None):
        table.add_row("box shapes alone", _percent(baseline["accuracy"]), _interval(baseline["interval"]))
    for name, results in measured.items():
        table.add_row(name, Text(_percent(results["accuracy"]), "bold"), _interval(results["interval"]))
    return table


def _percent(fraction: float) -> str:
    """`54.7 %`."""
    return f"{100 * fraction:.1f} %"


def _interval(interval: list[float]) -> str:
    """`[49.9, 59.6]`, in percent."""
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
