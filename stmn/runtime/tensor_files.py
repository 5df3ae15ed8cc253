"""Tensors with a JSON description, in one safetensors file: model files, training states, scores."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stmn.errors import CheckpointError
from stmn.runtime.files import atomic_write

#: the metadata entry that holds the description
KEY = "stmn"

#: names of the filters in the skip path in older files -> their names today
_RENAMED = {f"stage_temporal.stage{number}.": f"skip_temporal.conv{number + 2}." for number in range(4)}


def save_tensors(path: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write tensors with a description, whole or not at all.

    Raises:
        OSError: the file can't be written; the disk may be full.
    """
    with atomic_write(path) as temporary:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(contiguous, temporary, metadata={KEY: json.dumps(description)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the description in a file of `save_tensors`. The tensors are not read.

    Raises:
        CheckpointError: there is no such file, or it is damaged, or another program wrote it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        description = json.loads(metadata[KEY])
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except KeyError as error:
        raise CheckpointError(f"{path}: a safetensors file, but not one that stmn wrote") from error
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: truncated or damaged: {error}") from error
    if not isinstance(description, dict):
        raise CheckpointError(f"{path}: damaged: its description is not a table")
    return description


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors in a file of `save_tensors`. Tensors of older files get today's names."""
    return {_current_name(name): tensor for name, tensor in load_file(path).items()}


def _current_name(name: str) -> str:
    """Today's name of a tensor."""
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name
