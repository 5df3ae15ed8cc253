"""Run one planned stage: skip it if it is up to date, keep its record."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stmn.errors import DataError, Interrupted
from stmn.options.base import StageOptions
from stmn.recipe.earlier import check_earlier
from stmn.recipe.plan import StagePlan, plan_stage
from stmn.runtime import torchrun
from stmn.runtime.files import FolderInUse, exclusive_lock, make_folder
from stmn.runtime.progress import Progress
from stmn.stages import find_stage
from stmn.stages.base import Context
from stmn.workspace import Run, Workspace, now, read_run


def execute(
    plan: StagePlan, workspace: Workspace, progress: Progress, device: str = "auto", force: bool = False,
    wait: bool = False, **about: Any,
) -> Run:  # fmt: skip
    """Run a planned stage, unless it is up to date.

    A run that was interrupted resumes in its folder. Under torchrun the first process runs the stage and keeps the
    record; the others take part in a shared stage, and wait for any other. One process at a time works in a folder.

    Args:
        force: run it even if it is up to date.
        wait: wait for another process that runs the same stage, and take what it makes; torchrun's processes don't.
        about: what else goes into the record: the recipe and the stage's id.

    Raises:
        FolderInUse: another process runs the same stage.
        Exception: whatever the stage raises; the record then says so.
    """
    context = _context(plan, workspace, progress, device)
    if torchrun.size() == 1:
        return _execute_here(plan, context, force, wait, **about)
    ranks, stage = context.ranks, find_stage(plan.verb)
    if ranks.broadcast(plan.fingerprint) != plan.fingerprint:
        raise DataError(f"{workspace.root}: the processes of torchrun see different data or runs; they must share it")
    if ranks.broadcast(_is_needed(plan, force)) and not ranks.first and stage.shared:
        stage.run(plan.options, context)
    if ranks.first:
        _execute_here(plan, context, force, False, **about)
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


def _execute_here(plan: StagePlan, context: Context, force: bool, wait: bool, **about: Any) -> Run:
    """`execute` in the process that keeps the record."""
    name = about.get("stage", plan.verb)
    if not _is_needed(plan, force):
        context.progress.say(f"{name}: up to date: {plan.run.path}")
        return plan.run
    if not plan.run.record and (note := check_earlier(plan, context.workspace)):
        context.progress.say(f"{name}: {note}")
    find_stage(plan.verb).check(plan.options, context)  # refuses before anything is written
    make_folder(plan.run.path)
    with _turn(plan, context, wait) as waited:
        if waited:  # the other process may have finished it
            plan.run.record = (read_run(plan.run.path) or plan.run).record
            if not _is_needed(plan, force=False):
                context.progress.say(f"{name}: made by the other process: {plan.run.path}")
                return plan.run
        return _run_and_record(plan, context, about)


@contextmanager
def _turn(plan: StagePlan, context: Context, wait: bool) -> Iterator[bool]:
    """Hold the lock of the run's folder; give whether another process had it first.

    Raises:
        FolderInUse: another process has it, and this one is not to wait.
    """
    folder, waited = plan.run.path, False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(exclusive_lock(folder))
                break
            except FolderInUse as error:
                if not wait:
                    raise FolderInUse(f"{folder}: {_describe_owner(folder)}; wait until it ends, or end it") from error
                if not waited:
                    context.progress.say(f"waiting for {folder}: {_describe_owner(folder)}")
                waited = True
                time.sleep(1)
        yield waited


def _describe_owner(folder: Path) -> str:
    """Who works in a run's folder, as its record says."""
    record = getattr(read_run(folder), "record", {})
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.get("started", time.time())))
    where = f"process {record.get('process', '?')} on {record.get('host', 'another machine')}"
    return f"{where} has been running this stage since {since}"


def _run_and_record(plan: StagePlan, context: Context, about: dict[str, Any]) -> Run:
    """Run the stage, and keep its record: who runs it, and what came of it."""
    stage, run, options = find_stage(plan.verb), plan.run, plan.options
    started = time.perf_counter()
    run.record = {"verb": plan.verb, "fingerprint": plan.fingerprint, **plan.identity, **about}
    run.record["options"] = options.model_dump(mode="json")
    run.record |= {"stmn": version("stmn"), "host": platform.node()}
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
