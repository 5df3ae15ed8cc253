"""`stmn init VIDEOS`: a list and a recipe that fit the clips, to edit before anything is trained."""

import csv
import io
import shlex
from pathlib import Path
from typing import Annotated

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer
from stmn.cli.fitting import check_free, head_of, name_of, print_choices, with_fitting_flags
from stmn.cli.parameters import DeviceName, Overwrite
from stmn.options.fitting import FittingOptions

app = make_app()


@with_fitting_flags
def init(
    asked: FittingOptions,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="where the two files are written")] = Path("."),
    device: DeviceName = None,
    force: Overwrite = False,
) -> None:
    """Write a list of clips and a recipe that fit them. The list has the columns path, class, group and split."""
    from stmn.cli.display import Display
    from stmn.recipe.fitting import fit_recipe
    from stmn.recipe.fitting.fit import can_report
    from stmn.recipe.fitting.list_file import list_rows
    from stmn.recipe.fitting.text import write_text
    from stmn.recipe.load import load_recipe
    from stmn.runtime.files import atomic_write, real_path
    from stmn.settings import load_settings

    name = name_of(asked)
    listed, recipe = to / f"{name}.csv", to / f"{name}.toml"
    if listed.exists() and asked.videos.exists() and listed.samefile(asked.videos):
        listed = to / f"{name}-split.csv"
    check_free([listed, recipe], force)
    fitted = fit_recipe(asked, name, load_settings(device=device).device, Display())
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(list_rows(fitted.clips, fitted.chosen, real_path(to)))
    run = f"stmn run {shlex.quote(str(recipe))}"
    head = head_of("stmn init", fitted, run)
    to.mkdir(parents=True, exist_ok=True)
    with atomic_write(listed) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    with atomic_write(recipe) as temporary:
        content = write_text(fitted.chosen, str(real_path(to) / listed.name), head, can_report(), from_list=True)
        temporary.write_text(content, encoding="utf-8")
    load_recipe(str(recipe))
    print_choices(fitted)
    answer(f"list       {listed}")
    answer(f"recipe     {recipe}")
    answer("Edit them, and then:")
    answer(f"  {run} --dry-run")
    answer(f"  {run}")


command(app, examples=("stmn init ~/videos", "stmn init ~/videos --folds 5 --to mine"))(init)
