"""`stmn train VIDEOS`: from a folder of clips to a tested model, with one command."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer
from stmn.cli.fitting import head_of, name_of, print_choices, with_fitting_flags
from stmn.cli.parameters import DeviceName, Rerun, Wait, WorkspacePath
from stmn.options.fitting import FittingOptions

if TYPE_CHECKING:
    from stmn.recipe.content import RecipeStage
    from stmn.workspace import Run, Workspace

app = make_app()


@with_fitting_flags
def train(
    asked: FittingOptions,
    out: Annotated[Path | None, typer.Option("--out", metavar="PATH", help="also write the model to this file")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="print what would be done and how long it takes; write nothing")
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="STAGE.KEY=VALUE", help="change the written recipe, as in stmn run; may be repeated"
        ),
    ] = None,
    workspace: WorkspacePath = None,
    device: DeviceName = None,
    force: Rerun = False,
    wait: Wait = None,
) -> None:
    """Train and test a model on a folder of clips, in one command. What is not given is chosen to fit them."""
    from stmn.cli.display import Display
    from stmn.cli.parameters import check_new
    from stmn.cli.run import print_results
    from stmn.errors import UsageError
    from stmn.recipe.chain import Overrides, run_recipe
    from stmn.recipe.fitting import fit_recipe
    from stmn.recipe.fitting.fit import can_report
    from stmn.recipe.fitting.text import final_id, write_text
    from stmn.recipe.load import load_recipe
    from stmn.runtime.files import atomic_write, real_path
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    settings = load_settings(workspace=workspace, device=device)
    space, name, display = Workspace(settings.workspace), name_of(asked), Display()
    recipe = space.root / f"{name}.toml"
    same = f"made from: {_describe(asked)}"
    there = recipe.exists() and not force
    if out and not _is_copy(out, space):  # a copy of a model that the workspace has may be overwritten
        check_new(out, force)
    if there and not plan:
        if f"# {same}\n" not in recipe.read_text(encoding="utf-8"):
            raise UsageError(
                f"{recipe}: already exists, for other clips or flags; run it with: "
                f"stmn run {shlex.quote(str(recipe))}, "
                "overwrite it with --force, or choose another --name"
            )
        display.say(f"{recipe}: exists and is run as it is; --force overwrites it")
    else:
        fitted = fit_recipe(asked, name, settings.device, display)
        print_choices(fitted)
        if not can_report():
            answer("report     none          needs packages that are not installed: pip install 'stmn[report]'")
        if plan:
            return
        head = [*head_of("stmn train", fitted, f"stmn run {recipe}"), same]
        space.root.mkdir(parents=True, exist_ok=True)
        with atomic_write(recipe) as temporary:
            text = write_text(fitted.chosen, str(real_path(asked.videos)), head, can_report())
            temporary.write_text(text, encoding="utf-8")
        answer(f"recipe     {recipe}")
    loaded = load_recipe(str(recipe), changes or ())
    overrides = Overrides(settings.defaults)
    done = list(run_recipe(loaded, space, display, overrides, settings.device, wait=wait, force=force))
    print_results(done)
    _compare_with_estimate(recipe, done)
    final = final_id(loaded.stages)
    model = next((run for stage, run in done if final in (stage.id, stage.of)), None)
    if model:
        _say_next(final if model.record.get("stage") == final else model.name, model.output("model"), out, space, name)


def _is_copy(file: Path, space: "Workspace") -> bool:
    """True if a file is a copy of a model of the workspace."""
    from stmn.runtime.files import holds_same

    return any(run.makes("model") and holds_same(file, run.output("model")) for run in space.runs())


def _describe(asked: FittingOptions) -> str:
    """A digest of the folder and the choices asked for, for the comment at the top of the recipe."""
    from stmn.runtime.files import digest, real_path

    return digest({key: str(value) for key, value in asked.chosen().items()} | {"videos": str(real_path(asked.videos))})


def _compare_with_estimate(recipe: Path, done: "list[tuple[RecipeStage, Run]]") -> None:
    """Print how far the estimate was off."""
    found = re.search(r"^# estimate +(\d+) s$", recipe.read_text(encoding="utf-8"), re.MULTILINE)
    took = sum(run.record.get("seconds", 0.0) for run in {run.name: run for _, run in done}.values())
    if found and took:
        estimated = max(1, int(found[1]))
        off = took / estimated - 1
        how = f"{100 * abs(off):.0f} % {'more' if off > 0 else 'less'}"
        answer(f"The stages took {_in_words(took)}, {how} than the estimate, {_in_words(float(estimated))}.")


def _in_words(seconds: float) -> str:
    """`41 s`, `12 min`, `5.0 h`."""
    from stmn.cli.dry_run import say_time

    return f"{seconds:.0f} s" if seconds < 60 else say_time(seconds)


def _say_next(named: str, model: Path, out: Path | None, space: "Workspace", name: str) -> None:
    """Copy the model to `out`, and print what can be done with it."""
    from stmn.runtime.files import copy_file

    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        copy_file(model, out)
        named = str(out)
    answer(f"model      {out or model}")
    answer("Next:")
    answer(f"  {space.command('predict', named, 'CLIP')}")
    answer(f"  {space.command('predict', named, 'FOLDER', '--out', 'predictions.csv')}")
    answer(f"  {space.command('export', named, '--copy-to', f'{name}.onnx')}")


command(app, examples=("stmn train ~/videos --plan", "stmn train ~/videos --out model.safetensors"))(train)
