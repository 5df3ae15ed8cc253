"""The recipe of a model: the stages that made it and tested it, from the records of their runs."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from stmn import registry
from stmn.errors import DataError
from stmn.options import options_of
from stmn.options.base import Option
from stmn.recipe.load import load_recipe
from stmn.runtime.files import names_path
from stmn.runtime.hub import is_hub_name
from stmn.runtime.names import without_folders
from stmn.runtime.toml_files import format_toml
from stmn.stages.card import find_upstream
from stmn.workspace import Run, Workspace, read_run

#: verb -> the stage's id in a recipe, if no recipe has named it
_NAMES = {"prepare": "videos", "fuse": "fused", "evaluate": "test"}
_STREAMS = {"rgb": "appearance", "flow": "motion"}
_HEAD = "# The stages that made this model, with every option that was given. Written from their records."


def write_recipe_from_runs(runs: Sequence[Run], name: str, about: str, path: Path, workspace: Workspace) -> None:
    """Write a recipe that repeats some runs and all that led to them, and check it.

    Folders on this machine are left out; `--data-root` names the folder of the videos.

    Args:
        runs: the runs.
        name: the recipe's name.
        about: a line that describes it.
        path: where it is written.
        workspace: where the runs that led to these are found.

    Raises:
        DataError: a run or data set that led to these is missing, or an option can't be written in a recipe.
    """
    stages = find_upstream(runs, workspace)
    sets = dict.fromkeys(run.record["data"]["name"] for run in stages if run.record.get("data"))
    prepared = [_find_prepared(data, workspace) for data in sets]
    ids = _choose_ids([*prepared, *stages])
    head = {"name": name, "about": about} | ({"data": next(iter(sets))} if len(sets) == 1 else {})
    tables = [_HEAD, "\n".join(["[recipe]", *_lines(head)])]
    for run in (*prepared, *stages):
        own = {"out": run.path.name} if run in prepared else {"data": run.record["data"]["name"]}
        values = {"id": ids[id(run)], "uses": run.record["verb"]} | (own if len(sets) > 1 else {})
        tables.append("\n".join(["[[stage]]", *_lines(values | _options(run, stages, ids))]))
    try:
        path.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
        load_recipe(str(path))
    except ValueError as error:
        raise DataError(f"an option of a stage can't be written in a recipe: {error}") from error


def _find_prepared(data: str, workspace: Workspace) -> Run:
    """The run that prepared a data set."""
    run = read_run(workspace.data_dir(data))
    if run is None:
        raise DataError(f"data set {data} is not in this workspace")
    return run


def _choose_ids(runs: Sequence[Run]) -> dict[int, str]:
    """An id for each run, by the run's `id()`."""
    found: dict[int, str] = {}
    for run in runs:
        modality = _STREAMS.get(run.record.get("options", {}).get("modality"), "")
        stage = str(run.record.get("stage", "")).partition("[")[0]  # in a sweep it is followed by the instance's values
        base = stage or _NAMES.get(run.record["verb"]) or modality or run.record["verb"]
        taken, number, name = set(found.values()), 1, base
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        found[id(run)] = name
    return found


def _options(run: Run, stages: Sequence[Run], ids: dict[int, str]) -> dict[str, Any]:
    """The options that a run was given, in a recipe's form: inputs are ids of stages."""
    made = {stage.record["fingerprint"]: ids[id(stage)] for stage in stages}
    given, found = run.record.get("given", {}), {}
    for option in options_of(run.record["verb"]).described().values():
        if option.inputs:
            value = _name_inputs(option, run, made)
        elif option.data or option.command_line_only or option.makes or option.execution or option.shape == "path":
            value = None
        else:
            value = without_folders(given.get(option.name))
        if value is not None:
            found[option.key] = value
    return found


def _name_inputs(option: Option, run: Run, made: dict[str, str]) -> Any:
    """The value of an input option in a recipe: ids of earlier stages, a keyword, or the name of a file."""
    value = run.record.get("options", {}).get(option.name)
    if value is None or value in option.words:
        return value
    values = [str(item) for item in (value if isinstance(value, list) else [value])]
    fingerprints = run.record.get("inputs", {}).get(option.name, [""] * len(values))
    names = []
    for text, fingerprint in zip(values, fingerprints, strict=True):
        installed = option.input_plugin and registry.offers(option.input_plugin, text)
        if fingerprint in made or is_hub_name(text) or installed:
            names.append(made.get(fingerprint, text))
        elif names_path(PurePath(text).name):  # a file: on another machine its folder is another
            names.append(PurePath(text).name)
        else:
            raise DataError(f"{run.label}: what it read as {option.key} is not in this workspace: {text}")
    return names if isinstance(value, list) else names[0]


def _lines(values: dict[str, Any]) -> list[str]:
    """One line `key = value` for each."""
    return [f"{key} = {format_toml(value)}" for key, value in values.items()]


def recipe_name(repo: str) -> str:
    """A name for a recipe, made from that of a repository."""
    return re.sub(r"[^\w-]+", "_", repo.rpartition("/")[2])
