"""The training list of a model, in a file beside a model file that has only its hash."""

from pathlib import Path
from typing import Any

from stmn.errors import CheckpointError, DataError
from stmn.runtime.files import digest
from stmn.runtime.json_files import read_record, write_record


def list_path(model: Path) -> Path:
    """Return the path of the list: `model.videos.json` beside `model.safetensors`."""
    return model.with_name(f"{model.stem}.videos.json")


def write_list(model: Path, lists: dict[str, Any]) -> None:
    """Write the lists of `TrainedOn` beside a model file, whole or not at all."""
    write_record(list_path(model), lists)


def read_list(model: Path, split_hash: str) -> dict[str, Any] | None:
    """Read the lists beside a model file; None if there are none.

    Args:
        model: The model file.
        split_hash: The hash of the videos in it.

    Raises:
        CheckpointError: The file beside it is damaged, or belongs to another model.
    """
    path = list_path(model)
    try:
        lists = read_record(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DataError as error:
        raise CheckpointError(f"{error}; delete it, or use another copy") from error
    videos = lists.get("videos")
    if not isinstance(videos, list) or not all(isinstance(name, str) for name in videos):
        raise CheckpointError(f"{path}: is damaged: no list of videos; delete it, or use another copy")
    if digest(sorted(videos)) != split_hash:
        raise CheckpointError(f"{path}: is the training list of another model than {model.name}: delete it")
    return lists
