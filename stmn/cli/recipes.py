"""`stmn recipes`: list, show, validate, copy."""

from pathlib import Path
from typing import Annotated

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer
from stmn.cli.parameters import Overwrite, check_new
from stmn.errors import count_of

app = make_app("List, show, validate and copy recipes.")

_RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="a file, or the name of a recipe")]


@command(app, "list", examples=("stmn recipes list",))
def list_() -> None:
    """List the recipes that come with stmn."""
    from stmn.recipe.load import list_recipes
    from stmn.runtime.toml_files import read_toml

    known = list_recipes()
    width = max(map(len, known))
    for name, path in known.items():
        about = read_toml(path).get("recipe", {}).get("about", "")
        answer(f"{name:<{width}} {about}")


@command(app, examples=("stmn recipes show final", "stmn recipes show final --resolved"))
def show(
    recipe: _RecipeName,
    resolved: Annotated[bool, typer.Option("--resolved", help="print every option of every stage")] = False,
) -> None:
    """Print a recipe."""
    from stmn.recipe.content import with_shared
    from stmn.recipe.load import find_recipe, load_recipe
    from stmn.runtime.files import read_text

    if not resolved:
        for line in read_text(find_recipe(recipe)).removesuffix("\n").split("\n"):
            answer(line.rstrip("\r").expandtabs())
        return
    loaded = load_recipe(recipe)
    for stage in loaded.stages:
        answer(f"[{stage.id}] {stage.uses}")
        given = with_shared(stage.given, stage.options, loaded.shared)
        for key, value in stage.options(**given).model_dump(mode="json").items():
            source = "stage" if key in stage.given else "recipe" if key in given else "default"
            answer(f"  {key} = {value!r}  ({source})")
    if loaded.sweep:
        answer("[sweep]")
        for axis in loaded.sweep.axes:
            name = f"{axis.stage}.{axis.name}" if axis.stage and axis.stage not in axis.name else axis.name
            answer(f"  {name}: {', '.join(axis.values)}")
        if loaded.sweep.all_splits:
            answer("  split: all")
        if loaded.sweep.against:
            answer(f"  against: {loaded.sweep.against}")


@command(app, examples=("stmn recipes validate my.toml",))
def validate(recipe: _RecipeName) -> None:
    """Find everything that would stop a recipe, without running it."""
    from stmn.recipe.expand import expand
    from stmn.recipe.load import load_recipe
    from stmn.recipe.networks import check_recipe

    loaded = load_recipe(recipe)
    check_recipe(expand(loaded))
    more = ""
    if loaded.sweep:
        each = " for each split" if loaded.sweep.all_splits else ""
        more = f"; with its sweep {count_of(len(expand(loaded).stages), 'stage')}{each}"
    ids = ", ".join(stage.id for stage in loaded.stages)
    answer(f"{loaded.path}: ok, {count_of(len(loaded.stages), 'stage')}: {ids}{more}")


@command(app, examples=("stmn recipes copy final my.toml",))
def copy(
    recipe: _RecipeName,
    to: Annotated[Path, typer.Argument(metavar="TO", help="new file, or folder")] = Path("."),
    force: Overwrite = False,
) -> None:
    """Copy a recipe to edit it."""
    from stmn.recipe.load import find_recipe
    from stmn.runtime.files import atomic_write, read_text

    source = find_recipe(recipe)
    target = to / source.name if to.is_dir() else to
    check_new(target, force)
    with atomic_write(target) as temporary:
        temporary.write_text(read_text(source), encoding="utf-8")
    answer(str(target))
