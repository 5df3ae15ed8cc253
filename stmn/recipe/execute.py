"""Run one stage: resolve its inputs, skip it when up to date, keep its record."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import stmn
from stmn.errors import DataError, Interrupted, StmnError
from stmn.options.base import StageOptions, Trained
from stmn.runtime import torchrun
from stmn.runtime.files import digest
from stmn.runtime.progress import Progress
from stmn.stages import stage
from stmn.workspace import Input, Run, Workspace, now, read_run

if TYPE_CHECKING:
    from stmn.runtime.ranks import Ranks


@dataclass(frozen=True)
class Context:
    """What a stage gets beside its options."""

    workspace: Workspace
    progress: Progress
    device: str
    out: Path
    inputs: dict[str, list[Input]] = field(default_factory=dict)
    data_dir: Path | None = None

    def input(self, name: str) -> Input | None:
        """The one input of an option, or None when it was not given."""
        given = self.inputs.get(name, [])
        return given[0] if given else None

    @property
    def ranks(self) -> "Ranks":
        """The processes that run a stage together under torchrun; otherwise this one alone."""
        from stmn.runtime.ranks import current_ranks

        return current_ranks()

    @property
    def data(self) -> Path:
        """The folder of the prepared data set."""
        if self.data_dir is None:
            raise StmnError("this stage has no data set")
        return self.data_dir


@dataclass(frozen=True)
class Planned:
    """A stage with everything resolved: where it runs and what identifies it."""

    verb: str
    options: StageOptions
    inputs: dict[str, list[Input]]
    data_dir: Path | None
    identity: dict[str, Any]
    run: Run

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides the result."""
        return digest(self.identity)

    @property
    def up_to_date(self) -> bool:
        """True when the run is there, finished, with all its files."""
        if not self.run.done or self.run.record.get("fingerprint") != self.fingerprint:
            return False
        return all((self.run.path / name).exists() for name in self.run.record["outputs"].values())


def plan(
    verb: str, options: StageOptions, workspace: Workspace, inputs: dict[str, list[Input]] | None = None
) -> Planned:
    """Resolve a stage without running it.

    `inputs` are those that a recipe has resolved already; the others are looked up by name or path.
    """
    module = stage(verb)
    if hasattr(module, "complete"):  # defaults that depend on the workspace or on other options
        options = module.complete(options, workspace, inputs or {})
    resolved = resolve_inputs(options, workspace, inputs or {})
    data_dir = workspace.find_data(options.data) if isinstance(options, Trained) else None
    identity = describe(verb, options, resolved, data_dir)
    locate = getattr(module, "locate", None)
    run = locate(options, workspace) if locate else workspace.new_run(module.label(options), digest(identity))
    return Planned(verb, options, resolved, data_dir, identity, run)


def execute(
    planned: Planned, workspace: Workspace, progress: Progress, device: str = "auto", force: bool = False, **about: Any
) -> Run:
    """Run a planned stage, or find it up to date.

    A run that was interrupted continues in its folder. `about` (the recipe and the stage's id) goes into the record.
    Raises what the stage raises; the record then says so. Under torchrun the first process does it and keeps the
    record, and the others share the work of stages that can be shared, or wait.
    """
    if torchrun.size() == 1:
        return execute_here(planned, workspace, progress, device, force, **about)
    from stmn.runtime.ranks import current_ranks

    ranks = current_ranks()
    if ranks.broadcast(planned.fingerprint) != planned.fingerprint:
        raise DataError(f"{workspace.root}: torchrun's processes see different data or runs here; it has to be shared")
    if ranks.broadcast(needed(planned, force)) and not ranks.first and getattr(stage(planned.verb), "TOGETHER", False):
        context = Context(workspace, progress, device, planned.run.path, planned.inputs, planned.data_dir)
        stage(planned.verb).run(planned.options, context)
    if ranks.first:
        execute_here(planned, workspace, progress, device, force, **about)
    ranks.barrier()  # until the record is written
    return planned.run if ranks.first else read_run(planned.run.path) or planned.run


def needed(planned: Planned, force: bool) -> bool:
    """True when a stage has something to do."""
    return force or not planned.up_to_date or getattr(stage(planned.verb), "ALWAYS", False)


def execute_here(
    planned: Planned, workspace: Workspace, progress: Progress, device: str, force: bool, **about: Any
) -> Run:
    """`execute` in the process that keeps the record."""
    module, run, options = stage(planned.verb), planned.run, planned.options
    if not needed(planned, force):
        progress.say(f"{about.get('stage', planned.verb)}: up to date: {run.path}")
        return run
    started = time.perf_counter()
    run.record = {"verb": planned.verb, "fingerprint": planned.fingerprint, **planned.identity, **about}
    run.record["options"] = options.model_dump(mode="json")
    context = Context(workspace, progress, device, run.path, planned.inputs, planned.data_dir)
    if hasattr(module, "check"):
        module.check(options, context)  # refuses before anything is written
    run.save(status="running", started=now(), process=os.getpid())
    try:
        made = module.run(options, context)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | Interrupted)
        run.save(status="interrupted" if interrupted else "failed", error=str(error))
        raise
    run.save(
        status="done",
        finished=now(),
        seconds=round(time.perf_counter() - started, 2),
        outputs=made.outputs,
        results=made.results,
    )
    return run


@dataclass(frozen=True)
class Made:
    """What a stage made: files by kind (relative to its folder) and results for the record."""

    outputs: dict[str, str]
    results: dict[str, Any] = field(default_factory=dict)


Given = TypeVar("Given", bound=StageOptions)

#: output -> what is said when no run made one
NOT_MADE = {
    "model": "no trained model in this workspace; make one with: stmn train-stream, then stmn fuse",
    "scores": "no scores in this workspace; make them with: stmn evaluate",
}


def with_newest(options: Given, name: str, workspace: Workspace, inputs: dict[str, Any]) -> Given:
    """Options whose input `name` ("model", "scores") is the workspace's newest, where none was given.

    Raises `DataError` with the command that makes one when there is none.
    """
    if getattr(options, name) is not None or name in inputs:
        return options
    run = workspace.newest(name)
    if run is None:
        raise DataError(NOT_MADE[name])
    return options.model_copy(update={name: str(run.path)})


def resolve_inputs(
    options: StageOptions, workspace: Workspace, given: dict[str, list[Input]]
) -> dict[str, list[Input]]:
    """Each input option's files; `given` wins over looking up."""
    resolved = {}
    for name, kind in options.inputs().items():
        value = getattr(options, name)
        if name in given:
            resolved[name] = given[name]
        elif value:
            values = value if isinstance(value, list) else [value]
            resolved[name] = [workspace.find_input(str(item), kind) for item in values]
    return resolved


def describe(verb: str, options: StageOptions, inputs: dict[str, list[Input]], data_dir: Path | None) -> dict[str, Any]:
    """Everything that decides a stage's result, as JSON."""
    content: dict[str, Any] = {
        "verb": verb,
        "stmn": stmn.__version__,
        "options": options.identity(),
        "inputs": {name: [item.fingerprint for item in items] for name, items in inputs.items()},
        "plugins": stage(verb).plugins(options),
    }
    if data_dir is not None:
        from stmn.store.format.read import Store

        with Store(data_dir) as store:
            content["data"] = {"name": data_dir.name, "fingerprint": store.fingerprint}
    return content
