"""Run the stages of a recipe one after another; find what earlier stages made."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stmn.errors import DataError, Interrupted, StmnError, UsageError, count_of
from stmn.options.base import DataOptions, SetOptions, StageOptions, build_options
from stmn.recipe.content import Recipe, RecipeStage, with_shared
from stmn.recipe.execute import choose_device_of, execute
from stmn.recipe.expand import expand
from stmn.recipe.networks import check_recipe
from stmn.recipe.plan import StagePlan, plan_stage
from stmn.recipe.sweep import Sweep
from stmn.runtime import torchrun
from stmn.runtime.files import digest
from stmn.runtime.locks import FolderInUse, hold_lock
from stmn.runtime.progress import Progress
from stmn.stages.workload import list_splits
from stmn.workspace import Input, Run, Workspace, as_input

#: this many instances of a sweep that fail in a row have one cause
_MOST_IN_A_ROW = 3


@dataclass(frozen=True)
class Overrides:
    """What the command line adds to a recipe.

    Attributes:
        defaults: verb -> defaults of its options, from the settings.
        data_root: folder of the videos.
        data: another prepared set.
        split: another split.
    """

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
        return build_options(model, values, f"stage '{stage.id}'")


def run_recipe(
    recipe: Recipe, workspace: Workspace, progress: Progress, overrides: Overrides, device: str = "auto",
    until: str | None = None, force: bool = False, wait: bool | None = None,
) -> Iterator[tuple[RecipeStage, Run]]:  # fmt: skip
    """Run the stages in order, skip what is up to date, and yield each stage with its run.

    Args:
        until: the id of the last stage to run.
        force: run every stage even if it is up to date.
        wait: wait for another process that runs this recipe or one of its stages. None: wait only for a stage, which
            another recipe may share.

    Raises:
        UsageError: an option, an input or `until` is wrong; nothing has been run then.
        FolderInUse: another process runs the same recipe.
        StmnError: what a stage raises.
    """
    known, _ = try_expand(recipe, workspace, overrides)
    known.up_to(until)
    options = {stage.id: overrides.options(known, stage) for stage in known.stages}
    check_recipe(known, options, torchrun.size(), until)
    runs: dict[str, Run] = {}
    given = {stage.id: overrides.options(recipe, stage) for stage in recipe.stages}
    with _recipe_lock(given, recipe.sweep, workspace, progress, bool(wait)):
        if recipe.sweep and recipe.sweep.over_splits:  # a stage without axes makes the set that has the splits
            first = [stage for stage in known.up_to(until) if not stage.axes and stage.uses == "prepare"]
            chain = _Chain(replace(known, stages=first), options, workspace, progress, device, force, wait, runs)
            yield from chain.run(first)
            if len(first) == len(known.up_to(until)):
                return
            guessed, known = known, expand_here(recipe, workspace, overrides)
            if known != guessed:
                options = {stage.id: overrides.options(known, stage) for stage in known.stages}
                check_recipe(known, options, torchrun.size(), until)
        yield from _Chain(known, options, workspace, progress, device, force, wait, runs).run(known.up_to(until))


@dataclass(frozen=True)
class _Chain:
    """Runs stages one after another, each on what earlier ones made."""

    recipe: Recipe
    options: dict[str, StageOptions]
    workspace: Workspace
    progress: Progress
    device: str
    force: bool
    wait: bool | None
    runs: dict[str, Run]

    def run(self, stages: Sequence[RecipeStage]) -> Iterator[tuple[RecipeStage, Run]]:
        """Run stages that have not been run yet, and yield each with its run.

        If an instance of a sweep fails, such as a training that diverges, the stages that depend on it are left out,
        and the others still run.

        Raises:
            StmnError: a stage can't run, or several instances in a row failed; or, after all others have run, some
                instances failed, which the message lists.
        """
        wanted = {stage.id for stage in stages} - self.runs.keys()
        failed: dict[str, StmnError] = {}
        left_out: dict[str, str] = {}
        in_a_row = 0
        for number, stage in enumerate(self.recipe.stages, 1):
            if stage.id not in wanted:
                continue
            say = self.progress.say
            say(f"[{number}/{len(self.recipe.stages)}] {stage.id} ({stage.uses})")
            options = self.options[stage.id]
            named = (value for name in options.inputs() for value in options.named(name))
            if cause := next((value for value in named if value in failed or value in left_out), None):
                left_out[stage.id] = left_out.get(cause, cause)
                say(f"{stage.id}: left out, because {left_out[stage.id]} failed")
                continue
            try:
                run = self._run_one(stage, options)
            except StmnError as error:
                in_a_row += 1
                alone = not stage.axes or torchrun.size() > 1 or in_a_row == _MOST_IN_A_ROW
                if alone or isinstance(error, Interrupted | FolderInUse | UsageError):
                    raise
                failed[stage.id] = error
                say(f"{stage.id}: failed: {error}; continuing with the stages that don't depend on it")
                continue
            in_a_row = 0
            yield stage, run
        if failed:
            lines = (f"{stage_id}: {error}" for stage_id, error in failed.items())
            more = f"; {count_of(len(left_out), 'stage')} left out" if left_out else ""
            raise StmnError(
                *lines, f"{count_of(len(failed), 'stage')} of the sweep failed{more}: fix the cause and run again"
            )

    def _run_one(self, stage: RecipeStage, options: StageOptions) -> Run:
        """Run one stage, unless it is up to date."""
        plan = plan_stage(stage.uses, options, self.workspace, inputs_of(options, self.runs, self.workspace))
        about = {"recipe": self.recipe.name, "stage": stage.id}
        wait = self.wait is not False
        device = choose_device_of(stage.uses, self.device)
        run = execute(plan, self.workspace, self.progress, device, self.force, wait, **about)
        self.runs[stage.id] = run
        return run


def expand_here(recipe: Recipe, workspace: Workspace, overrides: Overrides) -> Recipe:
    """Expand a recipe into the instances of its stages, over the splits of the prepared set that it reads.

    Raises:
        UsageError: an instance has a mistake.
        DataError: the set is not prepared yet, or has no such split.
    """
    if recipe.sweep is None or not recipe.sweep.over_splits:
        return expand(recipe)
    reads = (overrides.options(recipe, stage) for stage in recipe.stages)
    data = next((options.data for options in reads if isinstance(options, DataOptions)), None)
    asked = next((list(axis.values) for axis in recipe.sweep.axes if axis.name == "split"), None)
    return expand(recipe, *list_splits(workspace.find_data(data), asked))


def try_expand(recipe: Recipe, workspace: Workspace, overrides: Overrides) -> tuple[Recipe, bool]:
    """Expand as `expand_here`, and return True; before the set is prepared, expand over one split and return False."""
    try:
        return expand_here(recipe, workspace, overrides), True
    except DataError:
        if not any(stage.uses == "prepare" for stage in recipe.stages):
            raise
        return expand(recipe), False


@contextmanager
def _recipe_lock(
    options: dict[str, StageOptions], sweep: Sweep | None, workspace: Workspace, progress: Progress, wait: bool
) -> Iterator[None]:
    """Keep other processes from running the same stages in the same order. Raises `FolderInUse`."""
    same = digest(
        {stage_id: one.model_dump(mode="json") for stage_id, one in options.items()}
        | ({"sweep": repr(sweep)} if sweep else {})
    )
    there = next(path for path in (workspace.runs_dir, *workspace.runs_dir.absolute().parents) if path.exists())
    if torchrun.rank() or not os.access(there, os.W_OK):  # where nothing can be written, no lock is needed
        yield
        return
    folder = workspace.runs_dir / f".recipe-{same}"
    with hold_lock(folder, progress.say, wait, "this recipe"):
        yield
    with suppress(OSError):  # one that a killed process left
        folder.rmdir()


def plan_in_recipe(
    recipe: Recipe,
    stage: RecipeStage,
    workspace: Workspace,
    progress: Progress,
    overrides: Overrides,
    flags: dict[str, Any],
) -> StagePlan:
    """Plan one stage of a recipe on the outputs of its earlier stages.

    An earlier stage that was never run with the recipe's options is replaced by the newest finished run of the same
    kind (same modality, architecture and inputs, on the same data set and split), with a notice.

    Raises:
        DataError: there is no such run either; the message has the command that makes it.
    """
    options = overrides.options(recipe, stage, **flags)
    if isinstance(options, SetOptions):
        workspace.find_data(options.data)  # without data nothing else matters
    runs: dict[str, Run] = {}
    for earlier in _named_stages(recipe, options, flags):
        run, exact = _earlier_run(recipe, earlier, workspace, overrides)
        if run is None:
            made = ["run", str(recipe.path), "--until", earlier.id]
            if overrides.split:  # which `stmn run` takes from the recipe alone
                made = [earlier.uses, "--recipe", str(recipe.path), "--stage", earlier.id, "--split", overrides.split]
            raise DataError(
                f"{recipe.path}: its stage '{earlier.id}' has not been run here; make it with: "
                f"{workspace.command(*made, data=overrides.data)}"
            )
        if not exact:
            progress.say(f"{earlier.id}: using {run.name}, which was made with other options than the recipe's")
        runs[earlier.id] = run
    return plan_stage(stage.uses, options, workspace, inputs_of(options, runs, workspace, flags))


def inputs_of(
    options: StageOptions, runs: dict[str, Run], workspace: Workspace, given: Collection[str] = ()
) -> dict[str, list[Input]]:
    """Resolve the inputs that name earlier stages; options in `given` came from flags, and are looked up later."""
    found = {}
    for name, kinds in options.inputs().items():
        values = options.named(name)
        if name not in given and any(value in runs for value in values):
            found[name] = [
                as_input(runs[value], *kinds) if value in runs else workspace.find_input(value, *kinds)
                for value in values
            ]
    return found


def _named_stages(recipe: Recipe, options: StageOptions, given: Collection[str] = ()) -> list[RecipeStage]:
    """The recipe's stages that a stage's inputs name; inputs in `given` came from flags."""
    named = {value for name in options.inputs() if name not in given for value in options.named(name)}
    return [stage for stage in recipe.stages if stage.id in named]


def _earlier_run(
    recipe: Recipe, stage: RecipeStage, workspace: Workspace, overrides: Overrides
) -> tuple[Run | None, bool]:
    """The finished run of a stage, or a substitute, or None; and whether it is exactly what the recipe says."""
    options = overrides.options(recipe, stage)
    runs: dict[str, Run] = {}
    all_exact = True
    for earlier in _named_stages(recipe, options):
        run, exact = _earlier_run(recipe, earlier, workspace, overrides)
        if run is None:
            return None, False
        runs[earlier.id], all_exact = run, all_exact and exact
    inputs: dict[str, Any] = {}
    try:
        plan = plan_stage(stage.uses, options, workspace, inputs_of(options, runs, workspace))
        if plan.up_to_date:
            return plan.run, all_exact
        inputs = plan.identity["inputs"]
    except StmnError:  # it can't run as the recipe says: its starting weights are not here, for example
        pass
    return _find_substitute(stage.uses, options, inputs, workspace), False


def _find_substitute(verb: str, options: StageOptions, inputs: dict[str, Any], workspace: Workspace) -> Run | None:
    """The newest finished run of a verb with the same modality, architecture and inputs, on the same data and split.

    Another split will not do: its training videos may be this one's test videos.
    """
    values = options.model_dump()
    same = {key: value for key in ("modality", "arch", "split") if (value := values.get(key)) is not None}
    data = workspace.find_data(options.data).name if isinstance(options, SetOptions) else None
    for run in workspace.runs():
        made, record = run.record.get("options", {}), run.record
        is_same = all(made.get(key) == value for key, value in same.items()) and record.get("inputs", {}) == inputs
        if run.done and record["verb"] == verb and is_same and record.get("data", {}).get("name") == data:
            return run
    return None
