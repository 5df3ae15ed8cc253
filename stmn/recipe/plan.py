"""Resolve a stage before it runs: defaults, inputs, data, and the fingerprint of all that decides its result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stmn import registry
from stmn.errors import CheckpointError, PluginError
from stmn.nets.needed import read_needed
from stmn.options.base import SetOptions, StageOptions
from stmn.registry import for_fingerprint
from stmn.runtime.files import digest
from stmn.stages import find_stage
from stmn.stages.base import Stage, check_split, read_plugin_options
from stmn.workspace import Input, Run, Workspace


@dataclass(frozen=True)
class StagePlan:
    """A stage with everything resolved.

    Attributes:
        identity: everything that decides the result, as JSON.
        given: the options that were given, as JSON, except those that decide only speed or place.
        run: its run; the record is that of an earlier run with this fingerprint, if there is one.
    """

    verb: str
    options: StageOptions
    inputs: dict[str, list[Input]]
    data_dir: Path | None
    identity: dict[str, Any]
    run: Run
    given: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides the result."""
        return digest(self.identity)

    @property
    def up_to_date(self) -> bool:
        """True if the run is finished and its files are unchanged."""
        return self.is_finished and not self.run.find_change()

    @property
    def is_finished(self) -> bool:
        """True if the run is finished, even if its files have changed."""
        return self.run.done and self.run.record.get("fingerprint") == self.fingerprint


def plan_stage(
    verb: str, options: StageOptions, workspace: Workspace, inputs: dict[str, list[Input]] | None = None
) -> StagePlan:
    """Resolve a stage without running it.

    Args:
        inputs: inputs that a recipe has already resolved; the others are looked up by name or path.

    Raises:
        StmnError: an option is wrong, or an input, the data set or a plugin is missing.
    """
    stage, given = find_stage(verb), inputs or {}
    chosen = options.given()
    check_split(stage, options, workspace)
    options = read_plugin_options(stage.complete(options, workspace, given))
    resolved = _resolve_inputs(stage, options, workspace, given)
    data_dir = workspace.find_data(options.data) if isinstance(options, SetOptions) else None
    identity = {
        "verb": verb,
        "format": stage.format,
        "options": options.identity(),
        "inputs": {name: [item.fingerprint for item in items] for name, items in resolved.items()},
        "plugins": [for_fingerprint(known) for known in stage.plugins(options)] + _plugins_of(resolved),
    }
    if data_dir is not None:
        identity["data"] = {"name": data_dir.name, "fingerprint": workspace.fingerprint_of(data_dir)}
    run = stage.find_run(options, workspace) or workspace.new_run(stage.label(options), digest(identity))
    return StagePlan(verb, options, resolved, data_dir, identity, run, chosen)


def _plugins_of(inputs: dict[str, list[Input]]) -> list[dict[str, str]]:
    """The plugins of other packages that input models need, as they are now."""
    found = []
    for item in (item for items in inputs.values() for item in items):
        for known in _needed_plugins(item):
            try:
                found.append(for_fingerprint(registry.find_recorded(known).identity))
            except PluginError as error:
                raise PluginError(f"{item.path}: {error}") from error
    return found


def _needed_plugins(item: Input) -> list[dict[str, str]]:
    """The plugins of other packages that an input model was made with; empty for any other file."""
    from stmn.runtime.tensor_files import read_metadata

    if item.path.suffix != ".safetensors":
        return []
    try:
        description = read_metadata(item.path)
    except CheckpointError:  # damaged, or weights of another program: the stage checks that
        return []
    return read_needed(item.path, description)


def _resolve_inputs(
    stage: Stage[Any], options: StageOptions, workspace: Workspace, given: dict[str, list[Input]]
) -> dict[str, list[Input]]:
    """The files of each input option: those in `given`, or looked up."""
    resolved = {}
    for name in options.inputs():
        if name in given:
            resolved[name] = given[name]
        elif values := options.named(name):
            resolved[name] = [stage.find_input(options, name, value, workspace) for value in values]
    return resolved
