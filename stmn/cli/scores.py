"""`stmn scores`: show, convert, compare and fuse scores files."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, answer_json, answers
from stmn.cli.parameters import Json, Overwrite, WorkspacePath, check_new, open_workspace
from stmn.errors import count_of

if TYPE_CHECKING:
    from rich.table import Table

    from stmn.evaluation.comparison import Comparison
    from stmn.evaluation.scores import Scores
    from stmn.workspace import Input

app = make_app("Show, convert, compare and fuse scores files.")

_ScoresName = Annotated[str, typer.Argument(metavar="SCORES", help="an evaluation, or a scores file")]


@command(app, examples=("stmn scores show test-1a2b3c4d", "stmn scores show scores.safetensors --videos 20"))
def show(
    scores: _ScoresName,
    videos: Annotated[int, typer.Option(help="also list this many of the most confident mistakes", min=0)] = 0,
    workspace: WorkspacePath = None,
    as_json: Json = False,
) -> None:
    """Print the protocol and all metrics with their 95 % intervals."""
    from stmn.evaluation.metrics import measure

    [(item, found)] = _load([scores], workspace)
    result = measure(found)
    if as_json:
        answer_json({"name": item.name, "protocol": found.protocol, **result})
        return

    from rich.text import Text

    from stmn.runtime.names import printable

    protocol = found.protocol.get("words", "protocol not recorded")
    console = answers()
    console.print(Text.assemble((printable(item.name), "bold"), f": {printable(protocol)}"), soft_wrap=True)
    console.print(_metrics_table(result))
    for note in result["notes"]:
        console.print(note)
    if videos:
        console.print(_mistakes_table(found, videos))


@command(
    app,
    examples=("stmn scores convert test-1a2b3c4d scores.csv", "stmn scores convert a.safetensors a.parquet"),
)
def convert(
    scores: _ScoresName,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="FILE.csv, or FILE.parquet (needs the extra: parquet)")],
    workspace: WorkspacePath = None,
    force: Overwrite = False,
) -> None:
    """Write a table with one row per video: id, group, class, prediction, and all scores."""
    from stmn.errors import MissingExtra, UsageError
    from stmn.runtime.csv_cells import safe_cell
    from stmn.runtime.files import atomic_write

    if out.suffix.lower() not in (".csv", ".parquet"):
        raise UsageError(f"{out}: the name must end in .csv or .parquet")
    [(_, found)] = _load([scores], workspace)
    columns = found.to_columns()
    check_new(out, force)
    with atomic_write(out) as temporary:
        if out.suffix.lower() == ".csv":
            with open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                writer = csv.writer(file)
                writer.writerow(map(safe_cell, columns))
                for row in zip(*columns.values(), strict=True):
                    writer.writerow(safe_cell(cell) if isinstance(cell, str) else cell for cell in row)
        else:
            try:
                import pyarrow
                from pyarrow.parquet import write_table
            except ImportError as error:
                raise MissingExtra("Parquet", "pyarrow", "parquet") from error
            write_table(pyarrow.table(columns), temporary)
    answer(f"{out}: {count_of(len(found.ids), 'video')}, {count_of(len(columns), 'column')}")


@command(app, examples=("stmn scores compare test-1a2b test-9f8e", "stmn scores compare a.safetensors b.safetensors"))
def compare(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="an evaluation, or a scores file")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="another one, of the same videos")],
    videos: Annotated[bool, typer.Option("--videos", help="list the videos that only one has correct")] = False,
    workspace: WorkspacePath = None,
    as_json: Json = False,
) -> None:
    """Compare two scores files: the difference with its interval, a paired test, flipped videos."""
    from stmn.evaluation.comparison import compare_scores

    (one, ours), (other, theirs) = _load([first, second], workspace)
    result = compare_scores(ours, theirs, other.name)
    if as_json:
        answer_json({"first": one.name, "second": other.name, **asdict(result)})
    else:
        _print_comparison(result, one.name, other.name, videos)


@command(app, examples=("stmn scores fuse rgb.safetensors flow.safetensors -o late.safetensors",))
def fuse(
    scores: Annotated[list[str], typer.Argument(metavar="SCORES...", help="two or more evaluations or scores files")],
    out: Annotated[Path, typer.Option("--out", "-o", help="file to write")],
    weights: Annotated[str | None, typer.Option(metavar="A,B,...", help="one weight per file [default: equal]")] = None,
    average: Annotated[
        Literal["logits", "softmax"],
        typer.Option(help="what is averaged: the scores as they are, or probabilities"),
    ] = "logits",
    choose_on: Annotated[
        list[str] | None,
        typer.Option(help="choose the weights on these scores of other videos, one per file in the same order"),
    ] = None,
    workspace: WorkspacePath = None,
    force: Overwrite = False,
) -> None:
    """Average two or more scores files, matched by video id (late fusion)."""
    from stmn.errors import UsageError
    from stmn.evaluation.agreement import check_disjoint, list_differences
    from stmn.evaluation.metrics import describe_accuracy, measure
    from stmn.evaluation.scores import fuse_late
    from stmn.evaluation.weights import choose_weights

    if len(scores) < 2:
        raise UsageError("name at least two scores files")
    check_new(out, force)
    if weights and choose_on:
        raise UsageError("--weights and --choose-on: pass only one of them")
    parts = _load(scores, workspace)
    given = _parse_weights(weights) if weights else None
    found, names = [part for _, part in parts], [item.name for item, _ in parts]
    if choose_on:
        if len(choose_on) != len(parts):
            raise UsageError(f"--choose-on: {len(choose_on)} scores for the {len(parts)} to fuse")
        others = _load(choose_on, workspace)
        held, held_names = [part for _, part in others], [item.name for item, _ in others]
        for name, other, tested, part in zip(held_names, held, names, found, strict=True):
            swapped = any(set(other.streams) == set(fused.streams) for fused in found)
            if swapped and set(other.streams) != set(part.streams):
                own, asked = " + ".join(other.streams), " + ".join(part.streams)
                raise UsageError(
                    f"--choose-on {name}: is of {own}, but {tested} of {asked}; name them in the order of the scores"
                )
        given = choose_weights(held, held_names, average)
        check_disjoint(held[0], found[0], held_names[0], names[0])
        answer(f"weights {', '.join(f'{w:g}' for w in given)}, chosen on {count_of(len(held[0].ids), 'other video')}")
    fused = fuse_late(found, given, names, average)
    if choose_on:
        fused.protocol["late_fusion_weights_chosen_on"] = choose_on
    for line in list_differences(found, names):
        answer(line)
    fused.save(out)
    answer(f"{out}: {describe_accuracy(measure(fused))}")


def _load(names: list[str], workspace: Path | None) -> list[tuple["Input", "Scores"]]:
    """Find and read scores files. Raises `UsageError`, `DataError` or `CheckpointError`."""
    from stmn.evaluation.scores import load_scores

    place = open_workspace(workspace)
    found = [place.find_input(name, "scores") for name in names]
    return [(item, load_scores(item.path)) for item in found]


def _metrics_table(result: dict[str, Any]) -> "Table":
    """The metrics with their intervals."""
    from rich.table import Table

    from stmn.evaluation.metrics import describe_units

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("%", justify="right")
    table.add_column(f"95 % interval (over {describe_units(result)})")
    rows = [
        ("top-1", result["accuracy"], result["interval"]),
        ("top-5", result["top5"], result["intervals"]["top5"]),
        ("mean class accuracy", result["mean_class_accuracy"], result["intervals"]["mean_class_accuracy"]),
        *((f"{name} alone", share, result["stream_intervals"][name]) for name, share in result["streams"].items()),
    ]
    for label, value, interval in rows:
        if value is not None:
            table.add_row(label, f"{100 * value:.1f}", f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}")
    if result["calibration_error"] is not None:
        table.add_row("calibration error", f"{100 * result['calibration_error']:.1f}")
    if result["calibration_error_after"] is not None:
        table.add_row(f"at temperature {result['temperature']:.2f}", f"{100 * result['calibration_error_after']:.1f}")
    table.add_row("chance", f"{100 * result['chance']:.1f}", count_of(result["videos"], "video"))
    return table


def _mistakes_table(scores: "Scores", count: int) -> "Table":
    """The wrongly classified videos, most confident first."""
    from rich.table import Table

    from stmn.evaluation.kinds import holds_logits

    sure = holds_logits(scores.protocol)
    confidence, predicted = scores.probabilities().max(dim=1)
    wrong = [i for i, label in enumerate(scores.labels) if label != int(predicted[i])]
    table = Table("mistake", "true class", "predicted", *(["confidence"] if sure else []), box=None, pad_edge=False)
    for i in sorted(wrong, key=lambda i: -float(confidence[i]))[:count]:
        names = (scores.ids[i], scores.classes[scores.labels[i]], scores.classes[int(predicted[i])])
        table.add_row(*names, *([f"{100 * float(confidence[i]):.0f} %"] if sure else []))
    return table


def _print_comparison(result: "Comparison", first: str, second: str, videos: bool) -> None:
    """Print a comparison, and the flipped videos if asked for."""
    from rich.table import Table

    console = answers()
    low, high = result.interval
    for name, accuracy in ((first, result.accuracies[0]), (second, result.accuracies[1])):
        console.print(f"{100 * accuracy:5.1f} %  {name}", soft_wrap=True)
    console.print(
        f"difference {100 * result.difference:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}] "
        f"on {count_of(result.videos, 'video')}",
        soft_wrap=True,
    )
    console.print(
        f"both correct {result.both_correct}, both wrong {result.both_wrong}, only the first correct "
        f"{result.first_alone}, only the second correct {result.second_alone}",
        soft_wrap=True,
    )
    console.print(f"p = {result.p_value:.3g}, {result.test}")
    if result.test_limit:
        console.print(result.test_limit)
    if videos:
        table = Table("video", "true class", "first predicts", "second predicts", box=None, pad_edge=False)
        for row in result.flipped:
            table.add_row(*row)
        console.print(table)


def _parse_weights(text: str) -> list[float]:
    """Parse `1,3`. Raises `UsageError`."""
    from stmn.errors import UsageError

    try:
        return [float(item) for item in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--weights {text}: must be numbers separated by commas, as 1,3") from error
