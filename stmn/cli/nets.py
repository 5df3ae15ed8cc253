"""`stmn nets show`: a network as a tree of its parts, with gates, temporal filters and costs, and as a picture."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmn.cli.app import command, make_app
from stmn.cli.parameters import Json, WorkspacePath, open_workspace

if TYPE_CHECKING:
    from rich.table import Table

    from stmn.nets.config import NetworkConfig
    from stmn.workspace import Workspace

app = make_app("Show a network: gates, temporal filters, costs.")


@command(app, examples=("stmn nets show final --svg final.svg", "stmn nets show fused --size 256"))
def show(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="a run, a model file, or a recipe (file or name)")
    ] = None,
    recipe: Annotated[str | None, typer.Option(metavar="RECIPE", help="a recipe, even if a run has its name")] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="stage of the recipe whose network is shown [default: the last that trains one]"
        ),
    ] = None,
    classes: Annotated[int, typer.Option(help="classes of a recipe's network; its data decides later", min=1)] = 101,
    size: Annotated[
        int | None, typer.Option(help="side of the frames, pixels [default: the training crop's]", min=32)
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="also write a picture to this file")] = None,
    workspace: WorkspacePath = None,
    as_json: Json = False,
) -> None:
    """Show the parts of a network: gates and temporal filters, shapes, parameters, multiply-adds."""
    from stmn.cli.console import answers
    from stmn.nets.show.cost import cost, sketch
    from stmn.runtime.files import atomic_write

    title, config = _find_network(model, recipe, network, classes, open_workspace(workspace))
    drawn = sketch(config)
    side = size or config.size
    rows = cost(drawn, side)
    if svg:
        from stmn.nets.show.figure import draw

        with atomic_write(svg) as temporary:
            temporary.write_text(draw(drawn, title))
    if as_json:
        parts = [vars(row) for row in rows]
        typer.echo(json.dumps({"name": title, "network": config.model_dump(mode="json"), "size": side, "parts": parts}))
        return
    answers().print(table(title, drawn, rows, side))


def _find_network(
    model: str | None, recipe: str | None, network: str | None, classes: int, workspace: "Workspace"
) -> tuple[str, "NetworkConfig"]:
    """Name and configuration of what was asked for: the network of a model, or one that a recipe trains."""
    from stmn.errors import UsageError
    from stmn.recipe.networks import network_of_model, network_of_recipe

    if (model is None) == (recipe is None):
        raise UsageError("name a run, a model file or a recipe")
    path = None if model is None else _find_model(model, workspace)
    if path is None:
        return network_of_recipe(recipe or model or "", network, classes)
    if network is not None:
        raise UsageError("--network chooses a network of a recipe; a model has only one")
    return network_of_model(path)


def _find_model(name: str, workspace: "Workspace") -> Path | None:
    """The file of a model; None if the name is that of a recipe."""
    from stmn.errors import UsageError
    from stmn.recipe.load import list_recipes

    if Path(name).suffix == ".toml":
        return None
    try:
        return workspace.find_model(name)
    except UsageError:
        if name in list_recipes():
            return None
        raise


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
