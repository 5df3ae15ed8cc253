"""Run one planned stage: skip it if it is up to date, keep its record."""

import os
import time
from typing import Any

from stmn.errors import DataError, Interrupted
from stmn.options.base import StageOptions
from stmn.recipe.plan import StagePlan, plan_stage
from stmn.runtime import torchrun
from stmn.runtime.progress import Progress
from stmn.stages import find_stage
from stmn.stages.base import Context
from stmn.workspace import Run, Workspace, now, read_run


def execute(
    plan: StagePlan, workspace: Workspace, progress: Progress, device: str = "auto", force: bool = False, **about: Any
) -> Run:
    """Run a planned stage, unless it is up to date.

    A run that was interrupted resumes in its folder. Under torchrun the first process runs the stage and keeps the
    record; the others take part in a shared stage, and wait for any other.

    Args:
        force: run it even if it is up to date.
        about: what else goes into the record: the recipe and the stage's id.

    Raises:
        Exception: whatever the stage raises; the record then says so.
    """
    context = _context(plan, workspace, progress, device)
    if torchrun.size() == 1:
        return _execute_here(plan, context, force, **about)
    ranks, stage = context.ranks, find_stage(plan.verb)
    if ranks.broadcast(plan.fingerprint) != plan.fingerprint:
        raise DataError(f"{workspace.root}: the processes of torchrun see different data or runs; they must share it")
    if ranks.broadcast(_is_needed(plan, force)) and not ranks.first and stage.shared:
        stage.run(plan.options, context)
    if ranks.first:
        _execute_here(plan, context, force, **about)
    ranks.barrier()  # until the record is written
    return plan.run if ranks.first else read_run(plan.run.path) or plan.run


def is_shared(verb: str) -> bool:
    """True if the processes of torchrun run a stage together."""
    return find_stage(verb).shared


def _context(plan: StagePlan, workspace: Workspace, progress: Progress, device: str) -> Context:
    """What the stage is given."""

    def run_stage(options: StageOptions) -> Run:
        return execute(plan_stage(plan.verb, options, workspace), workspace, progress, device)

    return Context(workspace, progress, device, plan.run.path, plan.inputs, plan.data_dir, run_stage)


def _is_needed(plan: StagePlan, force: bool) -> bool:
    """True if a stage has something to do."""
    return force or not plan.up_to_date or find_stage(plan.verb).always


def _execute_here(plan: StagePlan, context: Context, force: bool, **about: Any) -> Run:
    """`execute` in the process that keeps the record."""
    stage, run, options = find_stage(plan.verb), plan.run, plan.options
    if not _is_needed(plan, force):
        context.progress.say(f"{about.get('stage', plan.verb)}: up to date: {run.path}")
        return run
    started = time.perf_counter()
    run.record = {"verb": plan.verb, "fingerprint": plan.fingerprint, **plan.identity, **about}
    run.record["options"] = options.model_dump(mode="json")
    stage.check(options, context)  # refuses before anything is written
    run.save(status="running", started=now(), process=os.getpid())
    try:
        result = stage.run(options, context)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | Interrupted)
        run.save(status="interrupted" if interrupted else "failed", error=str(error))
        raise
    run.save(
        status="done",
        finished=now(),
        seconds=round(time.perf_counter() - started, 2),
        outputs=result.outputs,
        results=result.values,
    )
    return run
