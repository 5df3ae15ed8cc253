"""`stmn push MODEL USER/NAME`: send a model with its card and its recipe to the hub."""

from pathlib import Path
from typing import Annotated

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, say
from stmn.cli.parameters import Overwrite, WorkspacePath, check_new, open_workspace

app = make_app()


@command(
    app,
    examples=(
        "stmn push fused ada/gates --licence apache-2.0 --dry-run gates",
        "stmn push fused ada/gates --licence apache-2.0",
        "stmn push fused ada/gates --card gates/README.md --private",
    ),
)
def push(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a run's name, its folder, or a model file")],
    name: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="repository on the hub; USER/NAME@BRANCH for a branch of it")
    ],
    licence: Annotated[
        str | None, typer.Option(metavar="NAME", help="licence of the weights: apache-2.0, cc-by-4.0, ...")
    ] = None,
    licence_link: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="text of a licence that the hub doesn't know")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="send this card [default: one made from the records]")] = None,
    private: Annotated[bool, typer.Option("--private", help="make a new repository private")] = False,
    dry_run: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="write what would be sent to a folder, and send nothing")
    ] = None,
    workspace: WorkspacePath = None,
    force: Overwrite = False,
) -> None:
    """Send a model to the hub: weights, card and recipe. The card is made from the records of runs."""
    from tempfile import TemporaryDirectory

    from stmn.cli.display import Display
    from stmn.errors import UsageError
    from stmn.recipe.publish import collect
    from stmn.report.card import choose_licence
    from stmn.runtime.hub import CARD_FILE, MODEL_FILE, RECIPE_FILE, parse_hub_name, upload

    repository = parse_hub_name(name)
    chosen = None if card else choose_licence(licence, licence_link)
    if card and (licence or licence_link):
        raise UsageError(f"--card {card} names its own licence: leave out --licence")
    if dry_run:
        for file in (MODEL_FILE, CARD_FILE, RECIPE_FILE):
            check_new(dry_run / file, force)
    place, display = open_workspace(workspace), Display()
    path = place.find_model(model)
    with TemporaryDirectory(prefix="stmn-push-") as made:
        collect(path, repository, chosen, card, Path(made), place, display)
        if dry_run:
            _copy(Path(made), dry_run)
            return
        message = ", ".join(sorted(file.name for file in Path(made).iterdir()))
        address = upload(Path(made), repository, private, message)
    say(f"anyone who may see it can load {repository.repo} as hf://{repository.repo}")
    answer(address)


def _copy(source: Path, folder: Path) -> None:
    """Copy files, each whole or not at all, and print their names."""
    import shutil

    from stmn.runtime.files import atomic_write

    for file in sorted(source.iterdir()):
        with atomic_write(folder / file.name) as temporary:
            shutil.copyfile(file, temporary)
        answer(f"{folder / file.name}")
