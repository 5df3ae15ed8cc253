"""`stmn scores`: show, convert, compare and fuse scores files."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmn.cli.guard import guarded

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores
    from stmn.workspace import Input

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Show, convert, compare and fuse scores: what models say of videos, by video id.",
)
One = Annotated[str, typer.Argument(help="a scores file, or an evaluation's folder or name")]
WorkspaceOption = Annotated[Path | None, typer.Option("--workspace", "-w", help="folder with data/ and runs/")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
DebugOption = Annotated[bool, typer.Option("--debug", help="show tracebacks")]
ForceOption = Annotated[bool, typer.Option("--force", help="replace a file that is there")]


def loaded(names: list[str], workspace: Path | None) -> list[tuple["Input", "Scores"]]:
    """Scores by their names. Raises what is wrong with them."""
    from stmn.evaluation.scores import load_scores
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    place = Workspace(load_settings(workspace=workspace).workspace)
    found = [place.find_input(name, "scores") for name in names]
    return [(item, load_scores(item.path)) for item in found]


def check_new(path: Path, force: bool) -> None:
    """Raise `UsageError` when a file is there and not to be replaced."""
    from stmn.errors import UsageError

    if path.exists() and not force:
        raise UsageError(f"{path}: is there already; --force replaces it")


@app.command(epilog="Examples:  stmn scores show test-1a2b3c4d   |   stmn scores show scores.safetensors --videos 20")
def show(
    scores: One,
    videos: Annotated[int, typer.Option(help="list this many videos too, the surest mistakes first", min=0)] = 0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """How they were measured, and every number with its 95 % interval."""
    with guarded(debug):
        from stmn.evaluation.metrics import measure

        [(item, found)] = loaded([scores], workspace)
        result = measure(found)
        if as_json:
            typer.echo(json.dumps({"name": item.name, "protocol": found.protocol, **result}))
            return
        from rich.console import Console

        console = Console(highlight=False)
        console.print(f"[bold]{item.name}[/]: {found.protocol.get('words', 'no protocol given')}", soft_wrap=True)
        console.print(numbers(result))
        if videos:
            console.print(mistakes(found, videos))


def numbers(result: dict[str, Any]) -> Any:
    """The table of the numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("%", justify="right")
    table.add_column(f"95 % interval (over {result['intervals_over']})")
    for key, label in (("accuracy", "top-1"), ("top5", "top-5"), ("mean_class_accuracy", "mean of classes")):
        low, high = result["intervals"][key]
        table.add_row(label, f"{100 * result[key]:.1f}", f"{100 * low:.1f} to {100 * high:.1f}")
    for name, share in result["streams"].items():
        table.add_row(f"{name} alone", f"{100 * share:.1f}")
    table.add_row("calibration error", f"{100 * result['calibration_error']:.1f}")
    table.add_row("chance", f"{100 * result['chance']:.1f}", f"{result['videos']:,} videos")
    return table


def mistakes(scores: "Scores", count: int) -> Any:
    """Wrong videos, the surest first."""
    from rich.markup import escape
    from rich.table import Table

    share = scores.mean().softmax(dim=1)
    best, predicted = share.max(dim=1)
    wrong = [i for i, label in enumerate(scores.labels) if label != int(predicted[i])]
    table = Table("mistake", "is", "taken for", "sure", box=None, pad_edge=False)
    for i in sorted(wrong, key=lambda i: -float(best[i]))[:count]:
        names = (scores.ids[i], scores.classes[scores.labels[i]], scores.classes[int(predicted[i])])
        table.add_row(*map(escape, names), f"{100 * float(best[i]):.0f} %")
    return table


@app.command(
    epilog="Examples:  stmn scores convert test-1a2b3c4d scores.csv   |   stmn scores convert a.safetensors a.parquet"
)
def convert(
    scores: One,
    out: Annotated[Path, typer.Argument(help="FILE.csv, or FILE.parquet (extra: parquet)")],
    workspace: WorkspaceOption = None,
    force: ForceOption = False,
    debug: DebugOption = False,
) -> None:
    """A table with a row a video: id, group, class, prediction, and each stream's score of each class."""
    with guarded(debug):
        from stmn.errors import MissingExtra, UsageError
        from stmn.runtime.files import atomic_write

        if out.suffix.lower() not in (".csv", ".parquet"):
            raise UsageError(f"{out}: write FILE.csv or FILE.parquet")
        [(_, found)] = loaded([scores], workspace)
        columns = found.table()
        check_new(out, force)
        with atomic_write(out) as temporary:
            if out.suffix.lower() == ".csv":
                with open(temporary, "w", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow(columns)
                    writer.writerows(zip(*columns.values(), strict=True))
            else:
                try:
                    import pyarrow
                    from pyarrow.parquet import write_table
                except ImportError as error:
                    raise MissingExtra("Parquet", "pyarrow", "parquet") from error
                write_table(pyarrow.table(columns), temporary)
        typer.echo(f"{out}: {len(found.ids)} videos, {len(columns)} columns")


@app.command(
    epilog="Examples:  stmn scores compare test-1a2b test-9f8e   |   stmn scores compare a.safetensors b.safetensors"
)
def compare(
    first: One,
    second: One,
    videos: Annotated[bool, typer.Option("--videos", help="list every video that one alone has right")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Is the second better? The difference with its interval, McNemar's test, and which videos flipped."""
    with guarded(debug):
        from stmn.evaluation.comparison import compare as compared

        (one, ours), (other, theirs) = loaded([first, second], workspace)
        result = compared(ours, theirs, other.name)
        if as_json:
            typer.echo(json.dumps({"first": one.name, "second": other.name, **asdict(result)}))
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        console = Console(highlight=False)
        low, high = result.interval
        for item, share in ((one, result.accuracies[0]), (other, result.accuracies[1])):
            console.print(f"{100 * share:5.1f} %  {escape(item.name)}", soft_wrap=True)
        console.print(
            f"difference {100 * result.difference:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}] "
            f"on {result.videos} videos",
            soft_wrap=True,
        )
        console.print(
            f"both right {result.both_right}, both wrong {result.both_wrong}, the first alone {result.first_alone}, "
            f"the second alone {result.second_alone}; McNemar's exact p = {result.p_value:.3g}",
            soft_wrap=True,
        )
        if videos:
            table = Table("video", "is", "first says", "second says", box=None, pad_edge=False)
            for row in result.flipped:
                table.add_row(*map(escape, row))
            console.print(table)


@app.command(epilog="Examples:  stmn scores fuse rgb.safetensors flow.safetensors -o late.safetensors --weights 1,3")
def fuse(
    scores: Annotated[list[str], typer.Argument(help="two or more scores files, or evaluations")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the file to write")],
    weights: Annotated[str | None, typer.Option(help="one for each, as 1,3 (default: equal)")] = None,
    choose_on: Annotated[
        list[str] | None,
        typer.Option(help="choose the weights on these scores of other videos, one for each, in their order"),
    ] = None,
    workspace: WorkspaceOption = None,
    force: ForceOption = False,
    debug: DebugOption = False,
) -> None:
    """Average any number of scores, matched by video id."""
    with guarded(debug):
        from stmn.errors import UsageError
        from stmn.evaluation.comparison import choose_weights
        from stmn.evaluation.metrics import measure, words
        from stmn.evaluation.scores import fuse_late

        if len(scores) < 2:
            raise UsageError("name two scores or more")
        check_new(out, force)
        if weights and choose_on:
            raise UsageError("--weights says what --choose-on would choose: give one of them")
        parts = loaded(scores, workspace)
        given = numbers_of(weights) if weights else None
        if choose_on:
            if len(choose_on) != len(parts):
                raise UsageError(f"--choose-on: {len(choose_on)} scores for {len(parts)} that are fused")
            others = loaded(choose_on, workspace)
            given = choose_weights([part for _, part in others], [item.name for item, _ in others])
            typer.echo(f"weights {', '.join(f'{w:g}' for w in given)}, chosen on {len(others[0][1].ids)} other videos")
        fused = fuse_late([part for _, part in parts], given, [item.name for item, _ in parts])
        if choose_on:
            fused.protocol["late_fusion_weights_chosen_on"] = choose_on
        fused.save(out)
        typer.echo(f"{out}: {words(measure(fused))}")


def numbers_of(text: str) -> list[float]:
    """`1,3`. Raises `UsageError`."""
    from stmn.errors import UsageError

    try:
        return [float(item) for item in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--weights {text}: write numbers with commas between them, as 1,3") from error
