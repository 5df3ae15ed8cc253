"""`stmn recipes`: list, show, validate, copy."""

from pathlib import Path
from typing import Annotated

import typer

from stmn.cli.guard import guarded

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="List, show, check and copy recipes.",
)
Name = Annotated[str, typer.Argument(help="a recipe's file, or its name")]


@app.command("list")
def list_() -> None:
    """List the recipes that come with stmn."""
    import tomllib

    from stmn.recipe.load import list_recipes

    with guarded():
        for name, path in list_recipes().items():
            about = tomllib.loads(path.read_text()).get("recipe", {}).get("about", "")
            typer.echo(f"{name:<16} {about}")


@app.command()
def show(name: Name, resolved: Annotated[bool, typer.Option(help="every option with its value")] = False) -> None:
    """Print a recipe; with --resolved every option of every stage."""
    from stmn.recipe.load import find_recipe, load_recipe, with_shared

    with guarded():
        if not resolved:
            typer.echo(find_recipe(name).read_text(), nl=False)
            return
        recipe = load_recipe(name)
        for stage in recipe.stages:
            typer.echo(f"[{stage.id}] {stage.uses}")
            given = with_shared(stage.given, stage.options, recipe.shared)
            for key, value in stage.options(**given).model_dump(mode="json").items():
                source = "stage" if key in stage.given else "recipe" if key in given else "default"
                typer.echo(f"  {key} = {value!r}  ({source})")


@app.command()
def validate(name: Name) -> None:
    """Check a recipe; print every mistake, with near matches."""
    from stmn.recipe.load import load_recipe
    from stmn.recipe.networks import check_recipe

    with guarded():
        recipe = load_recipe(name)
        check_recipe(recipe)
        typer.echo(f"{recipe.path}: fine: {len(recipe.stages)} stages: {', '.join(s.id for s in recipe.stages)}")


@app.command()
def copy(
    name: Name,
    to: Annotated[Path, typer.Argument(help="new file or folder")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
) -> None:
    """Copy a recipe, to be edited."""
    from stmn.errors import UsageError
    from stmn.recipe.load import find_recipe
    from stmn.runtime.files import atomic_write

    with guarded():
        source = find_recipe(name)
        target = to / source.name if to.is_dir() else to
        if target.exists() and not force:
            raise UsageError(f"{target}: is there already; --force replaces it")
        with atomic_write(target) as temporary:
            temporary.write_text(source.read_text())
        typer.echo(str(target))
