"""A look inside a model that a person names, on the data that it was trained on or another prepared set."""

from pathlib import Path
from typing import TYPE_CHECKING

from stmn.stages.inside import look_at_model
from stmn.stages.networks import is_model, read_training_set
from stmn.workspace import Workspace

if TYPE_CHECKING:
    from stmn.evaluation.inside.look import Inside


def look_at(
    model: str, data: str | None, split: str | None, part: str, most: int, device: str, workspace: Workspace
) -> tuple[Path, "Inside"]:
    """Look inside a model.

    Args:
        model: a run, or a model file.
        data: a prepared set; None for the one that the model was trained on.
        split: a split of it; None for the model's.
        part: whose videos are read, `test` or `train`.
        most: the largest number of videos.
        device: `auto`, `cpu` or `cuda`.
        workspace: where names are looked for.

    Returns:
        The model file, and what was found.

    Raises:
        StmnError: as `stages.inside.look_at_model` says, or a name is unknown.
    """
    from stmn.store.format.read import Store

    path = workspace.find_model(model)
    known, trained_split = read_training_set(path) if is_model(path) else ("", "")
    folder = workspace.find_data(data or (known if known in workspace.prepared() else None))
    with Store(folder) as store:
        own = trained_split if trained_split in store.header.splits else next(iter(store.header.splits))
        return path, look_at_model(path, store, lambda given: given.part(split or own, part), most, device, workspace)
