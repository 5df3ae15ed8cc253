"""Run one planned stage: skip it if it is up to date, keep its record."""

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stmn.errors import DataError, Interrupted, PluginError, UsageError
from stmn.options import verb_of
from stmn.options.base import StageOptions
from stmn.recipe.earlier import check_earlier
from stmn.recipe.plan import StagePlan, plan_stage
from stmn.registry import describe_unexpected
from stmn.runtime import torchrun
from stmn.runtime.files import refuse_links, remove_leftovers
from stmn.runtime.locks import hold_lock
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
        wait: wait for another process that runs the same stage, and use its result.
        about: further entries of the record: the recipe and the stage's id.

    Raises:
        FolderInUse: another process runs the same stage.
        UsageError: a file that it would write outside the workspace exists, and `force` is false.
        Exception: whatever the stage raises; the record then says so.
    """
    if not force:
        _refuse_existing(
            plan.options, find_stage(plan.verb).find_unchanged(plan.options, plan.run) if plan.up_to_date else ()
        )
    run = _execute(plan, workspace, progress, device, force, wait, about)
    if not torchrun.rank():
        find_stage(plan.verb).deliver(plan.options, run)
    return run


def _execute(
    plan: StagePlan, workspace: Workspace, progress: Progress, device: str, force: bool, wait: bool,
    about: dict[str, Any],
) -> Run:  # fmt: skip
    """Run a stage, alone or with the other processes of torchrun."""
    context = _context(plan, workspace, progress, device, wait)
    if torchrun.size() == 1:
        with _stage_lock(plan, context, force, wait, about) as needed:
            return _run_and_record(plan, context, about) if needed else plan.run
    ranks, stage = context.ranks, find_stage(plan.verb)
    if ranks.broadcast(plan.fingerprint) != plan.fingerprint:
        raise DataError(
            f"{workspace.root}: the processes of torchrun see different data or runs; all of them need this one folder"
        )
    if ranks.first:
        with _stage_lock(plan, context, force, wait, about) as needed:
            ranks.broadcast(needed)
            if needed:
                _run_and_record(plan, context, about)
            ranks.barrier()  # until the record is written
        return plan.run
    if ranks.broadcast(None) and stage.shared:
        stage.run(plan.options, context)
    ranks.barrier()
    return read_run(plan.run.path) or plan.run


def check_stage(plan: StagePlan, workspace: Workspace, progress: Progress, device: str = "auto") -> None:
    """Refuse a planned stage that can't run, before anything is written. Raises `StmnError`."""
    find_stage(plan.verb).check(plan.options, _context(plan, workspace, progress, device, wait=False))


def is_shared(verb: str) -> bool:
    """True if the processes of torchrun run a stage together."""
    return find_stage(verb).shared


def choose_device_of(verb: str, names: str) -> str:
    """The devices that a stage uses from a list: all of them, or the first one.

    Args:
        verb: the stage.
        names: the value of `--device`, such as `cuda:0,cuda:1`.
    """
    return names if find_stage(verb).several_devices else names.partition(",")[0].strip()


def _context(plan: StagePlan, workspace: Workspace, progress: Progress, device: str, wait: bool) -> Context:
    """The context that the stage runs in."""

    def run_stage(options: StageOptions) -> Run:
        run = execute(plan_stage(verb_of(options), options, workspace), workspace, progress, device, wait=wait)
        plan.run.record.setdefault("steps", {})[run.name] = run.record.get("digests", {})
        return run

    return Context(workspace, progress, device, plan.run.path, plan.inputs, plan.data_dir, run_stage)


def _refuse_existing(options: StageOptions, kept: Sequence[str]) -> None:
    """Raise `UsageError` if a file that the user named exists, unless it will be left as it is."""
    for option in options.described().values():
        path = getattr(options, option.name)
        if option.command_line_only and isinstance(path, Path) and os.path.lexists(path) and option.name not in kept:
            raise UsageError(f"{path}: already exists; use --force to overwrite it")


def _is_needed(plan: StagePlan, force: bool) -> bool:
    """True if a stage has something to do."""
    stage = find_stage(plan.verb)
    return force or not plan.up_to_date or stage.always or stage.has_more_work(plan.options, plan.run)


@contextmanager
def _stage_lock(plan: StagePlan, context: Context, force: bool, wait: bool, about: dict[str, Any]) -> Iterator[bool]:
    """Yield True if a stage has to run; its folder is then locked until the block ends. Else yield False.

    Raises:
        FolderInUse: another process runs it, and `wait` is false.
        StmnError: it can't run.
    """
    name, say = about.get("stage", plan.verb), context.progress.say
    if not _is_needed(plan, force):
        say(f"{name}: up to date: {plan.run.path}")
        yield False
        return
    refuse_links(plan.run.path, context.workspace.root)
    with hold_lock(plan.run.path, say, wait) as waited:
        found = read_run(plan.run.path)  # another process may have finished it since it was planned
        plan.run.record = found.record if found else {}
        if not _is_needed(plan, force and not waited):
            say(f"{name}: made by the other process: {plan.run.path}")
            yield False
            return
        if plan.is_finished and (change := plan.run.find_change()):
            say(f"{name}: {plan.run.path}: {change}; making it again")
        if not plan.run.record and (note := check_earlier(plan, context.workspace)):
            say(f"{name}: {note}")
        find_stage(plan.verb).check(plan.options, context)  # refuses before anything is written
        remove_leftovers(plan.run.path)
        yield True


def _run_and_record(plan: StagePlan, context: Context, about: dict[str, Any]) -> Run:
    """Run the stage, and keep its record: who runs it, and how it ended."""
    stage, run, options = find_stage(plan.verb), plan.run, plan.options
    started = time.perf_counter()
    run.record = {"verb": plan.verb, "fingerprint": plan.fingerprint, **plan.identity, **about}
    run.record["options"] = options.model_dump(mode="json")
    run.record |= {"given": plan.given, "stmn": version("stmn"), "host": platform.node()}
    run.save(status="running", started=now(), process=os.getpid())
    try:
        result = stage.run(options, context)
    except (Exception, KeyboardInterrupt) as error:
        interrupted = isinstance(error, KeyboardInterrupt | Interrupted)
        run.save(status="interrupted" if interrupted else "failed", error=str(error))
        raise
    except BaseException as error:  # a plugin that calls `sys.exit`, for example, would end the program with success
        what = describe_unexpected(error)
        run.save(status="failed", error=what)
        raise PluginError(f"{about.get('stage', plan.verb)} did not finish: {what}") from error
    run.save(
        status="done",
        finished=now(),
        seconds=round(time.perf_counter() - started, 2),
        outputs=result.outputs,
        digests=run.digest_files([*result.outputs.values(), *result.files]),
        results=result.values,
    )
    return run
