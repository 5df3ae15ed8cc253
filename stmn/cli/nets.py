"""`stmn nets show`: a network as a tree of its stages, with gates, temporal layers and costs, and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmn.cli.guard import guarded

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look at networks: of a recipe, or of a model file.",
)


@app.callback()
def nets() -> None:
    """Look at networks."""


@app.command(epilog="Examples:  stmn nets show --recipe final --svg final.svg   |   stmn nets show fused-multiply")
def show(
    model: Annotated[
        str | None, typer.Argument(help="a model file that stmn wrote, a run's name or its folder")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="a recipe's file or name: the networks that it trains")] = None,
    stage: Annotated[str | None, typer.Option(help="which of the recipe's stages (default: the last network)")] = None,
    classes: Annotated[int, typer.Option(help="classes of a recipe's networks, which its data decides", min=1)] = 101,
    size: Annotated[int | None, typer.Option(help="side of the frames (default: the training crop's)", min=32)] = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="where runs are looked for by name", show_default=".")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="write the picture here too")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """The stages of a network: where gates and temporal layers sit, shapes, parameters, multiply-adds."""
    with guarded(debug):
        import json

        from stmn.errors import UsageError
        from stmn.nets.show.cost import cost, sketch
        from stmn.recipe.networks import network_of_model, network_of_recipe
        from stmn.runtime.files import atomic_write
        from stmn.settings import load_settings
        from stmn.workspace import Workspace

        if (model is None) == (recipe is None):
            raise UsageError("name a model file, or a recipe with --recipe")
        if recipe is None:
            place = Workspace(load_settings(workspace=workspace).workspace)
            title, config = network_of_model(place.find_model(model or ""))
        else:
            title, config = network_of_recipe(recipe, stage, classes)
        network = sketch(config)
        side = size or config.size
        rows = cost(network, side)
        if svg:
            from stmn.nets.show.figure import draw

            with atomic_write(svg) as temporary:
                temporary.write_text(draw(network, title))
        if as_json:
            parts = [vars(row) for row in rows]
            typer.echo(
                json.dumps({"name": title, "network": config.model_dump(mode="json"), "size": side, "parts": parts})
            )
            return
        from rich.console import Console

        Console(highlight=False).print(table(title, network, rows, side))


def table(title: str, network: Any, rows: list[Any], size: int) -> "Table":
    """The tree as a table."""
    from rich.table import Table

    from stmn.nets.show.cost import total

    found = Table(
        title=f"{title}: a chunk of {size} x {size} pixels",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    found.add_column("part", no_wrap=True)
    found.add_column("layers")
    for column in ("output", "parameters", "GMACs"):
        found.add_column(column, justify="right", no_wrap=True)
    for cells in lines(network, rows):
        found.add_row(*cells)
    parameters, multiply_adds = total(rows)
    found.add_section()
    found.add_row("all", "", "", millions(parameters), billions(multiply_adds))
    return found


def lines(network: Any, rows: list[Any]) -> list[tuple[str, ...]]:
    """The rows of the table: part, layers, output, parameters, GMACs."""
    from stmn.nets.show.cost import total
    from stmn.nets.show.outline import outline

    shapes = {row.name: "x".join(map(str, row.shape)) for row in rows}
    found: list[tuple[str, ...]] = []

    def add(part: str, layers: str, shape: str, *names: str) -> None:
        sums = [total(rows, name) for name in names]
        found.append((part, layers, shape, millions(sum(p for p, _ in sums)), billions(sum(m for _, m in sums))))

    for stream in outline(network):
        name = stream.name
        add(f"[bold]{name}[/]", f"{stream.arch}, {stream.in_channels} channels", "", name)
        add("├─ conv1, pool1", stream.stem, shapes[f"{name}.conv1"], f"{name}.conv1")
        for stage in stream.parts:
            place, units = f"{name}.{stage.name}", stage.units
            layers = " ".join(layer for layer in units[0].layers if not layer.startswith("T"))
            add(f"├─ {stage.name}", f"{len(units)} x ({layers})", shapes[f"{place}.unit{len(units)}"], place)
            for label, colour, words, names in inserted(network, place, stage):
                add(f"│  [{colour}]{label}[/]", words, shapes[names[0]], *names)
        add("└─ pool, fc", head_words(network, stream), shapes[f"{name}.fc"], f"{name}.fc")
    if "fused.fc" in shapes:
        add("[bold]fused[/]", "linear layer over both streams' scores", shapes["fused.fc"], "fused")
    elif network.outputs == ["fused"]:
        found.append(("[bold]fused[/]", "mean of both streams' scores", "", "", ""))
    return found


def inserted(network: Any, place: str, stage: Any) -> list[tuple[str, str, str, list[str]]]:
    """Gates and temporal layers of a stage: (where, colour, what, names of the costs)."""
    name = place.partition(".")[0]
    found = []
    gated = [number for number, unit in enumerate(stage.units, 1) if unit.gated]
    if gated:
        gate, other = network.config.gate, "motion" if name == "appearance" else "appearance"
        where = "skip path too" if gate.site == "direct" else gate.operand.replace("_", "-").replace("relu", "ReLU")
        words = {"multiply": f"multiplied by {other}", "add": f"{other} added"}.get(
            gate.fusion, f"{gate.fusion} with {other}"
        )
        names = [f"{place}.unit{number}.gate" for number in gated]
        found.append((f"{span(gated)} gate", "red", f"{words}, {where}", names))
    for number, unit in enumerate(stage.units, 1):
        for layer in unit.layers:
            if layer.startswith("T"):
                words = f"over {layer[1:]} chunks, residual branch"
                found.append((f"{span([number])} filter", "dark_orange", words, [f"{place}.unit{number}.temporal"]))
    if stage.skip_filter:
        words = f"over {stage.skip_filter} chunks, skip path"
        found.append(("end filter", "dark_orange", words, [f"{place}.temporal"]))
    return found


def span(numbers: list[int]) -> str:
    """`unit 2`, or `unit 2-36`."""
    return f"unit {numbers[0]}" if len(numbers) == 1 else f"unit {numbers[0]}-{numbers[-1]}"


def head_words(network: Any, stream: Any) -> str:
    """Pooling over time and space, dropout and classifier."""
    temporal = network.config.temporal
    over = f"{temporal.window} chunks" if temporal.window else "T"
    pooled = "no pooling over T" if temporal.pool == "none" else f"{temporal.pool} over {over}"
    dropped = f", dropout {stream.dropout:g}" if stream.dropout else ""
    return f"{pooled}, mean {network.config.window}x{network.config.window}{dropped}"


def millions(count: int) -> str:
    """`23.51 M`, or `12.4 k`."""
    return "-" if not count else f"{count / 1e6:,.2f} M" if count >= 5e4 else f"{count / 1e3:,.1f} k"


def billions(count: int) -> str:
    """`4.089`."""
    return "-" if not count else f"{count / 1e9:,.3f}" if count >= 5e5 else "<0.001"
