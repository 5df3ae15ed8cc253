"""The networks that a recipe trains, without training them; and those of model files."""

from pathlib import Path
from typing import Any

from stmn.errors import DataError, UsageError, near_match
from stmn.recipe.load import load_recipe, with_shared
from stmn.stages import fuse, train_stream
from stmn.workspace import RECORD, Workspace


def network_of_model(path: Path) -> tuple[str, Any]:
    """Name and configuration of the network in a model file. Raises `CheckpointError`."""
    from stmn.nets.checkpoint import read_description

    return str(path), read_description(path).network


def find_model(value: str, workspace: Path) -> Path:
    """The model file that a person names: the file, its folder, or a run of the workspace. Raises `UsageError`."""
    path = Path(value)
    if path.is_file():
        return path
    if not (path / RECORD).is_file() and (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    return Workspace(workspace).find_input(value, "model").path


def network_of_recipe(name: str, stage_id: str | None, classes: int) -> tuple[str, Any]:
    """Name and configuration of the network that a stage of a recipe trains, with so many classes.

    Without `stage_id` the last network's. Raises `UsageError` when the recipe trains none, or has no such stage.
    """
    recipe = load_recipe(name)
    found: dict[str, Any] = {}
    newest: dict[str, Any] = {}
    names = [str(number) for number in range(1, classes + 1)]
    for stage in recipe.stages:
        if stage.uses not in ("train-stream", "fuse"):
            continue
        options = stage.options(**with_shared(stage.given, stage.options, recipe.shared))
        if isinstance(options, train_stream.Options):
            found[stage.id] = train_stream.network_config(train_stream.with_paper(options), names)
            newest[found[stage.id].streams[0].name] = found[stage.id]
        elif isinstance(options, fuse.Options):
            streams = [stream_of(getattr(options, which), which, found, newest) for which in ("appearance", "motion")]
            found[stage.id] = fuse.network_config(options, *streams)
    if not found:
        raise UsageError(f"{recipe.path}: trains no network")
    if stage_id is not None and stage_id not in found:
        raise UsageError(
            f"{recipe.path}: stage '{stage_id}' trains no network{near_match(stage_id, found)}; "
            f"these do: {', '.join(found)}"
        )
    chosen = stage_id or list(found)[-1]
    return f"{recipe.name}, {chosen}", found[chosen]


def stream_of(given: str | None, which: str, found: dict[str, Any], newest: dict[str, Any]) -> Any:
    """The stream that a fuse stage ties: an earlier stage's, that of a model file, or the recipe's newest."""
    if given is None:
        if which not in newest:
            raise DataError(f'the recipe trains no {which} stream that could be tied; name one: {which} = "FILE"')
        return newest[which]
    return found[given] if given in found else network_of_model(find_model(given, Path()))[1]
