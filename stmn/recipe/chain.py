"""Run a recipe's stages one after the other; find what earlier stages made."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stmn.errors import DataError, StmnError, UsageError, near_match
from stmn.options.base import StageOptions, build
from stmn.recipe.execute import Planned, execute, plan
from stmn.recipe.load import Recipe, RecipeStage, with_shared
from stmn.runtime.progress import Progress
from stmn.workspace import Input, Run, Workspace, as_input


@dataclass(frozen=True)
class Asked:
    """What the command line adds to a recipe: the settings' defaults, a folder of videos, other data, another split."""

    defaults: dict[str, dict[str, Any]]
    data_root: Path | None = None
    data: str | None = None
    split: str | None = None

    def options(self, recipe: Recipe, stage: RecipeStage, **flags: Any) -> StageOptions:
        """A stage's options: settings, then the recipe, then flags. Raises `UsageError`."""
        model = stage.options
        replaced = {"data": self.data, "split": self.split}
        shared = recipe.shared | {key: value for key, value in replaced.items() if value}
        values = self.defaults.get(stage.uses, {}) | with_shared(stage.given, model, shared) | flags
        if self.data_root and "videos" in model.model_fields:
            values["videos"] = self.data_root
        return build(model, values, f"stage '{stage.id}'")


def inputs_of(
    options: StageOptions, runs: dict[str, Run], workspace: Workspace, given: Collection[str] = ()
) -> dict[str, list[Input]]:
    """The inputs that name earlier stages, resolved; options in `given` came from flags and are left to look up."""
    found = {}
    for name, kind in options.inputs().items():
        values = listed(getattr(options, name))
        if name not in given and any(item in runs for item in values):
            found[name] = [
                as_input(runs[item], kind) if item in runs else workspace.find_input(item, kind) for item in values
            ]
    return found


def run_recipe(
    recipe: Recipe, workspace: Workspace, progress: Progress, asked: Asked, device: str = "auto",
    until: str | None = None, force: bool = False,
) -> Iterator[tuple[RecipeStage, Run]]:  # fmt: skip
    """Run the stages in order, skipping what is up to date; yield each with its run.

    Ends after the stage `until`. Raises `UsageError` before anything runs when an option or `until` is wrong.
    """
    ids = [stage.id for stage in recipe.stages]
    if until is not None and until not in ids:
        raise UsageError(f"{recipe.path}: no stage '{until}'{near_match(until, ids)}; it has {', '.join(ids)}")
    options = {stage.id: asked.options(recipe, stage) for stage in recipe.stages}
    runs: dict[str, Run] = {}
    for number, stage in enumerate(recipe.stages, 1):
        progress.say(f"[{number}/{len(recipe.stages)}] {stage.id} ({stage.uses})")
        planned = plan(stage.uses, options[stage.id], workspace, inputs_of(options[stage.id], runs, workspace))
        runs[stage.id] = execute(planned, workspace, progress, device, force, recipe=recipe.name, stage=stage.id)
        yield stage, runs[stage.id]
        if stage.id == until:
            return


def plan_in_recipe(
    recipe: Recipe,
    stage: RecipeStage,
    workspace: Workspace,
    progress: Progress,
    asked: Asked,
    flags: dict[str, Any],
) -> Planned:
    """Plan one stage of a recipe on the outputs of its earlier stages.

    An earlier stage that was never run with the recipe's options is replaced by the newest finished run of the same
    kind (same modality, architecture and inputs, on the same data set and split), and that is said. Raises `DataError`
    with the command that makes it when there is none either.
    """
    options = asked.options(recipe, stage, **flags)
    if hasattr(options, "data"):
        workspace.find_data(options.data)  # without data nothing else matters
    runs: dict[str, Run] = {}
    for earlier in named_stages(recipe, options, flags):
        run, exact = earlier_run(recipe, earlier, workspace, asked)
        if run is None:
            raise DataError(
                f"{recipe.path}: its stage '{earlier.id}' has not been run here; make it with: "
                f"stmn run {recipe.path} --until {earlier.id}"
            )
        if not exact:
            progress.say(f"{earlier.id}: taking {run.name}, which was made with other options than the recipe's")
        runs[earlier.id] = run
    return plan(stage.uses, options, workspace, inputs_of(options, runs, workspace, flags))


def named_stages(recipe: Recipe, options: StageOptions, given: Collection[str] = ()) -> list[RecipeStage]:
    """The recipe's stages that a stage's inputs name; inputs in `given` came from flags."""
    named = {item for name in options.inputs() if name not in given for item in listed(getattr(options, name))}
    return [stage for stage in recipe.stages if stage.id in named]


def earlier_run(recipe: Recipe, stage: RecipeStage, workspace: Workspace, asked: Asked) -> tuple[Run | None, bool]:
    """The finished run of a stage, or its stand-in, or None; and whether it is exactly what the recipe says."""
    options = asked.options(recipe, stage)
    runs: dict[str, Run] = {}
    all_exact = True
    for earlier in named_stages(recipe, options):
        run, exact = earlier_run(recipe, earlier, workspace, asked)
        if run is None:
            return None, False
        runs[earlier.id], all_exact = run, all_exact and exact
    inputs: dict[str, Any] = {}
    try:
        planned = plan(stage.uses, options, workspace, inputs_of(options, runs, workspace))
        if planned.up_to_date:
            return planned.run, all_exact
        inputs = planned.identity["inputs"]
    except StmnError:  # it can't be run as the recipe says: its starting weights are not here, say
        pass
    return stand_in(stage.uses, options, inputs, workspace), False


def stand_in(verb: str, options: StageOptions, inputs: dict[str, Any], workspace: Workspace) -> Run | None:
    """The newest finished run of a verb with the same modality, architecture and inputs, on the same data and split.

    Another split's training videos may be this one's test videos.
    """
    alike = {key: getattr(options, key) for key in ("modality", "arch", "split") if hasattr(options, key)}
    data = workspace.find_data(options.data).name if hasattr(options, "data") else None
    for run in workspace.runs():
        made, record = run.record.get("options", {}), run.record
        same = all(made.get(key) == value for key, value in alike.items()) and record.get("inputs", {}) == inputs
        if run.done and record["verb"] == verb and same and record.get("data", {}).get("name") == data:
            return run
    return None


def listed(value: Any) -> list[str]:
    """An option's value as a list."""
    return value if isinstance(value, list) else [value] if value else []
