"""Run a stage, or a recipe, for a Python caller."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stmn.options import options_of
from stmn.options.base import build_options
from stmn.recipe.chain import Overrides, run_recipe
from stmn.recipe.execute import execute
from stmn.recipe.load import load_recipe
from stmn.recipe.plan import plan_stage
from stmn.recipe.results import RecipeResult, StageResult, result_of
from stmn.runtime.progress import Progress
from stmn.workspace import Workspace


def call_stage(
    verb: str, given: Mapping[str, Any], workspace: Workspace, defaults: Mapping[str, Any], device: str,
    progress: Progress, force: bool,
) -> StageResult:  # fmt: skip
    """Run a stage, unless it is up to date.

    Args:
        verb: The kind of stage.
        given: Its options by the keys of recipes; a result stands for what its stage made. None means not given.
        workspace: Where it runs.
        defaults: Its defaults, from the settings.
        device: `auto`, `cpu` or `cuda`.
        progress: Where it reports.
        force: Run it even if it is up to date.

    Raises:
        UsageError: An option is wrong.
        StmnError: What the stage raises.
    """
    model = options_of(verb)
    values = {key: _plain(value) for key, value in given.items() if value is not None}
    plan = plan_stage(verb, build_options(model, {**defaults, **values}, verb), workspace)
    return result_of(execute(plan, workspace, progress, device, force))


def call_recipe(
    recipe: str, changes: Sequence[str], workspace: Workspace, overrides: Overrides, device: str, progress: Progress,
    until: str | None, force: bool,
) -> RecipeResult:  # fmt: skip
    """Run a recipe; stages that are up to date are skipped. Arguments and errors are those of `run_recipe`."""
    done = run_recipe(load_recipe(recipe, changes), workspace, progress, overrides, device, until, force)
    return RecipeResult({stage.id: result_of(run) for stage, run in done})


def _plain(value: Any) -> Any:
    """A value as a recipe has it: paths and results are text."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, StageResult | Path):
        return os.fspath(value)
    return value
