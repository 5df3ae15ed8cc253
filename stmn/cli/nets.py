"""`stmn nets show` and `inside`: a network's parts, gates, filters and costs; what its gates and filters do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer_json
from stmn.cli.parameters import DeviceName, Json, Overwrite, WorkspacePath, check_new, open_workspace

if TYPE_CHECKING:
    from rich.table import Table

    from stmn.nets.config import NetworkConfig
    from stmn.nets.network import Network
    from stmn.nets.show.cost import PartCost
    from stmn.workspace import Workspace

#: kind of row -> how the tree branches to it, and its style
_LOOKS = {
    "stream": ("", "bold"),
    "part": ("├─ ", ""),
    "head": ("└─ ", ""),
    "gate": ("│  ", "red"),
    "filter": ("│  ", "dark_orange"),
}

app = make_app("Show a network: gates, temporal filters, costs, and what they do.")


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
    classes: Annotated[
        int, typer.Option(help="classes of a recipe's network; its data decides later", min=1, max=100_000)
    ] = 101,
    size: Annotated[
        int | None, typer.Option(help="side of the frames, pixels [default: the training crop's]", min=32, max=4096)
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="also write a picture to this file")] = None,
    workspace: WorkspacePath = None,
    force: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Show the parts of a network: gates and temporal filters, shapes, parameters, multiply-adds."""
    from stmn.cli.console import answers
    from stmn.nets.build import sketch_network
    from stmn.nets.show.cost import count_costs
    from stmn.runtime.files import atomic_write

    if svg:
        check_new(svg, force)
    title, config = _find_network(model, recipe, network, classes, open_workspace(workspace))
    drawn = sketch_network(config)
    side = size or config.size
    costs = count_costs(drawn, side)
    if svg:
        from stmn.nets.show.figure import draw_network

        with atomic_write(svg) as temporary:
            temporary.write_text(draw_network(drawn, title), encoding="utf-8")
    if as_json:
        parts = [vars(part) for part in costs]
        answer_json({"name": title, "network": config.model_dump(mode="json"), "size": side, "parts": parts})
        return
    answers().print(_make_table(title, drawn, costs, side))


@command(app, examples=("stmn nets inside fused", "stmn nets inside fused --data synthetic --videos 200 --json"))
def inside(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a run or a model file, of two tied streams")],
    data: Annotated[
        str | None, typer.Option(metavar="NAME", help="prepared data set [default: the one it was trained on]")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="split of the data set [default: the one it was trained on]")
    ] = None,
    part: Annotated[Literal["test", "train"], typer.Option(help="whose videos are read")] = "test",
    videos: Annotated[int, typer.Option(help="videos at most; fewer if they are large", min=1, max=10_000)] = 64,
    device: DeviceName = None,
    workspace: WorkspacePath = None,
    as_json: Json = False,
) -> None:
    """Measure what gates and temporal filters do: where the gates let something through, gradients, filters.

    If the data set has masks of objects: the share of each gate's signals that falls on the target. And the gradient
    norm that reaches the sending stream, with the network's own gates and with others in their place.
    """
    from stmn.cli.console import answers
    from stmn.recipe.networks import look_at

    path, found = look_at(model, data, split, part, videos, device or "auto", open_workspace(workspace))
    if as_json:
        answer_json({"model": str(path)} | found.as_json())
        return
    from stmn.cli.nets_inside import make_tables

    for table in make_tables(found):
        answers().print(table)


def _find_network(
    model: str | None, recipe: str | None, network: str | None, classes: int, workspace: "Workspace"
) -> tuple[str, "NetworkConfig"]:
    """Name and configuration of the network asked for: that of a model, or one that a recipe trains."""
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
    """The file of a model; None if the name is a recipe's."""
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


def _make_table(title: str, network: "Network", costs: "list[PartCost]", size: int) -> "Table":
    """A network as a tree in a table."""
    from rich.table import Table
    from rich.text import Text

    from stmn.nets.show.cost import sum_costs
    from stmn.nets.show.table import list_rows

    table = Table(
        title=Text(f"{title}: a chunk of {size} x {size} pixels", style="bold"),
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("part", no_wrap=True)
    table.add_column("layers")
    for column in ("output", "params", "GMACs"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in list_rows(network, costs):
        branch, style = _LOOKS[row.kind]
        label = Text.assemble(branch, (row.label, style))
        shape = "x".join(map(str, row.shape))
        table.add_row(label, row.layers, shape, _millions(row.parameters), _billions(row.multiply_adds))
    table.add_section()
    parameters, multiply_adds = sum_costs(costs)
    table.add_row("all", "", "", _millions(parameters), _billions(multiply_adds))
    return table


def _millions(count: int) -> str:
    """`23.51 M`, or `12.4 k`."""
    return "-" if not count else f"{count / 1e6:,.2f} M" if count >= 5e4 else f"{count / 1e3:,.1f} k"


def _billions(count: int) -> str:
    """`4.089`."""
    return "-" if not count else f"{count / 1e9:,.3f}" if count >= 5e5 else "<0.001"
