"""Run a stage, or a recipe, for a Python caller."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stmn.options import check_verb, options_of
from stmn.options.base import build_options
from stmn.recipe.chain import Overrides, run_recipe
from stmn.recipe.execute import execute
from stmn.recipe.load import load_recipe
from stmn.recipe.plan import plan_stage
from stmn.recipe.results import RecipeResult, StageResult, TrainedModel, TuningResult, result_of
from stmn.recipe.tuning.question import prepare_tuning
from stmn.recipe.tuning.tune import run_tuning
from stmn.runtime.progress import Progress
from stmn.workspace import Workspace, read_run


def call_stage(
    verb: str, given: Mapping[str, Any], workspace: Workspace, defaults: Mapping[str, Any], device: str,
    progress: Progress, force: bool,
) -> StageResult:  # fmt: skip
    """Run a stage, unless it is up to date.

    Args:
        verb: The kind of stage.
        given: Its options by their keys in recipes; a result stands for the output of its stage. None: not given.
        workspace: Where it runs.
        defaults: Its defaults, from the settings.
        device: `auto`, `cpu` or `cuda`.
        progress: Where it reports.
        force: Run it even if it is up to date.

    Raises:
        UsageError: An option is wrong.
        StmnError: What the stage raises.
    """
    plan = plan_stage(verb, build_options(options_of(verb), {**defaults, **_plain_options(given)}, verb), workspace)
    return result_of(execute(plan, workspace, progress, device, force))


def call_tuning(
    verb: str, given: Mapping[str, Any], space: Mapping[str, Any], trials: int, name: str | None,
    minutes: float | None, prune: bool, workspace: Workspace, defaults: Mapping[str, Any], device: str,
    progress: Progress,
) -> TuningResult:  # fmt: skip
    """Continue a study until it has `trials` trials. Arguments and errors are those of `stmn.tune`."""
    check_verb(verb)
    tuning = prepare_tuning(verb, _plain_options(given), space, name, workspace, defaults, device)
    run_tuning(tuning, trials, progress, device, minutes, prune)
    study, best = tuning.study, tuning.study.best
    run = read_run(workspace.runs_dir / best.run) if best else None
    return TuningResult(
        study.name, study.path, study.trials, tuning.held_out, tuning.question.command(best.values) if best else "",
        TrainedModel.of(run) if run else None,
    )  # fmt: skip


def call_recipe(
    recipe: str, changes: Sequence[str], workspace: Workspace, overrides: Overrides, device: str, progress: Progress,
    until: str | None, force: bool,
) -> RecipeResult:  # fmt: skip
    """Run a recipe; stages that are up to date are skipped. Arguments and errors are those of `run_recipe`."""
    done = run_recipe(load_recipe(recipe, changes), workspace, progress, overrides, device, until, force)
    return RecipeResult({stage.id: result_of(run) for stage, run in done})


def _plain_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a recipe has them, without those that are None."""
    return {key: _plain(value) for key, value in given.items() if value is not None}


def _plain(value: Any) -> Any:
    """A value as a recipe has it: paths and results are text."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, StageResult | Path):
        return os.fspath(value)
    return value
