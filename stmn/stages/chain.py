"""Run a recipe's stages one after the other; find what earlier stages made."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stmn.errors import DataError, StmnError, UsageError, near_match
from stmn.progress import Progress
from stmn.recipe import Recipe, RecipeStage, with_shared
from stmn.stages.execute import Planned, execute, plan
from stmn.stages.options import StageOptions, build
from stmn.workspace import Input, Run, Workspace, as_input


@dataclass(frozen=True)
class Asked:
    """What the command line adds to a recipe: defaults of the settings, a folder of videos, another data set."""

    defaults: dict[str, dict[str, Any]]
    data_root: Path | None = None
    data: str | None = None

    def options(self, recipe: Recipe, stage: RecipeStage, **flags: Any) -> StageOptions:
        """A stage's options: settings, then the recipe, then flags. Raises `UsageError`."""
        model = stage.options
        shared = recipe.shared | ({"data": self.data} if self.data else {})
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
    recipe: Recipe, stage: RecipeStage, workspace: Workspace, progress: Progress, asked: Asked, flags: dict[str, Any]
) -> Planned:
    """Plan one stage of a recipe on the outputs of its earlier stages.

    An earlier stage that was never run with the recipe's options is replaced by the newest finished run of the same
    kind (same modality, architecture and inputs, on the same data set and split), and that is said. Raises `DataError`
    with the command that makes it when there is none either.
    """
    options = asked.options(recipe, stage, **flags)
    wanted = {item for name in options.inputs() if name not in flags for item in listed(getattr(options, name))}
    split = {"split": flags["split"]} if "split" in flags else {}
    runs: dict[str, Run] = {}
    for earlier in recipe.stages:
        if earlier.id == stage.id:
            break
        if earlier.uses != "prepare" and (earlier.id in wanted or wanted):
            run = earlier_run(recipe, earlier, workspace, progress, asked, split, runs, earlier.id in wanted)
            if run is not None:
                runs[earlier.id] = run
    return plan(stage.uses, options, workspace, inputs_of(options, runs, workspace, flags))


def earlier_run(
    recipe: Recipe, stage: RecipeStage, workspace: Workspace, progress: Progress, asked: Asked, split: dict[str, str],
    runs: dict[str, Run], needed: bool,
) -> Run | None:  # fmt: skip
    """The finished run of an earlier stage, or its nearest stand-in; None when there is none and none is needed."""
    options = asked.options(recipe, stage, **(split if "split" in stage.options.model_fields else {}))
    data, inputs = "", None
    try:
        data = workspace.find_data(options.data).name if hasattr(options, "data") else ""
        planned = plan(stage.uses, options, workspace, inputs_of(options, runs, workspace))
        inputs = planned.identity["inputs"]
        if planned.up_to_date:
            return planned.run
    except StmnError:
        if needed and not list(workspace.prepared()):
            raise
    # another split's training videos may be this one's test videos
    alike = {key: getattr(options, key) for key in ("modality", "arch", "split") if hasattr(options, key)}
    stand_in = next(
        (
            run
            for run in workspace.runs()
            if run.done
            and run.record["verb"] == stage.uses
            and run.record.get("data", {}).get("name", "") == data
            and run.record.get("inputs", {}) == (inputs if options.inputs() else {})
            and all(run.record["options"].get(key) == value for key, value in alike.items())
        ),
        None,
    )
    if stand_in is None and needed:
        raise DataError(
            f"{recipe.path}: its stage '{stage.id}' has not been run here; make it with: "
            f"stmn run {recipe.path} --until {stage.id}"
        )
    if stand_in is not None and needed:
        progress.say(f"{stage.id}: taking {stand_in.name}, which was made with other options than the recipe's")
    return stand_in


def listed(value: Any) -> list[str]:
    """An option's value as a list."""
    return value if isinstance(value, list) else [value] if value else []
