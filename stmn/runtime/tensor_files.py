"""Tensors and a JSON description in one safetensors file: model files, training states, scores, codebooks.

A file has its own checksums: the entry `digest` of the description holds a digest of the tensors' names, types, shapes
and bytes, and a digest of that and of the other entries. So the description can be checked without reading the tensors.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stmn.errors import CheckpointError
from stmn.runtime.cores import count_cores
from stmn.runtime.files import atomic_write, check_regular
from stmn.runtime.json_files import parse_json
from stmn.runtime.notices import notice

#: the metadata entry with the description; the only one, because safetensors writes several in random order
KEY = "stmn"
#: the entry of the description with the file's digests, its beginning as text, and its own entries
_DIGEST, _BEGINNING = "digest", '"digest": {"tensors": "'
_TENSORS, _CONTENT = "tensors", "content"
#: threads that digest large tensors; with more, disk or memory is the limit
_THREADS = 4

#: advice about a damaged file
_REMEDY = "use another copy, or make it again"

#: names of the skip path's filters in older files -> current names
_RENAMED = {f"stage_temporal.stage{number}.": f"skip_temporal.conv{number + 2}." for number in range(4)}


def save_tensors(path: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write tensors with a description and digests of both, whole or not at all.

    Raises:
        StmnError: the file can't be written; the disk may be full.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    plain, digest = json.loads(json.dumps(description)), _digest_tensors(contiguous)  # plain: as it will be read
    vouched = {**plain, _DIGEST: {_TENSORS: digest, _CONTENT: _digest_description(plain, digest)}}
    save_plain(path, contiguous, {KEY: json.dumps(vouched)})


def save_plain(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file without description and digests, whole or not at all.

    Raises:
        StmnError: the file can't be written; the disk may be full.
    """
    with atomic_write(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def is_ours(path: Path) -> bool:
    """True for a file of `save_tensors`, damaged or not; False for any other, even an unreadable one."""
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            return any(name == KEY or _BEGINNING in text for name, text in (file.metadata() or {}).items())
    except (SafetensorError, OSError):
        return False


def read_metadata(path: Path, remedy: str = _REMEDY) -> dict[str, Any]:
    """Read the description in a file of `save_tensors`, and make sure that it is what was written.

    The tensors are not read. A file without digests, which an older version wrote, is read with a notice.

    Args:
        remedy: what to do about a damaged file.

    Raises:
        CheckpointError: there is no such file, it is damaged, or another program wrote it.
    """
    with _report_damage(path, remedy):
        return _read_description(path)[0]


def read_tensors(path: Path, remedy: str = _REMEDY) -> dict[str, Tensor]:
    """Read the tensors in a file of `save_tensors`, and make sure that they are what was written.

    Tensors of older files get today's names.

    Args:
        remedy: what to do about a damaged file.

    Raises:
        CheckpointError: as in `read_metadata`.
    """
    with _report_damage(path, remedy):
        _, digest = _read_description(path)
        tensors = load_file(path)
        if digest is not None and digest != _digest_tensors(tensors):
            raise ValueError("its tensors are not what was written")
    return {_current_name(name): tensor for name, tensor in tensors.items()}


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read names and shapes of the tensors in a file of `save_tensors`, without the tensors. Raises `CheckpointError`.

    Tensors of older files get today's names.
    """
    with _report_damage(path, _REMEDY):
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            return {_current_name(name): tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def format_shape(shape: Sequence[int]) -> str:
    """Return a tensor's shape as `64 x 3 x 7 x 7`."""
    return " x ".join(map(str, shape)) or "one number"


def _read_description(path: Path) -> tuple[dict[str, Any], str | None]:
    """Read a file's description and its digest of the tensors; the digest is None in older files."""
    check_regular(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if KEY not in metadata and any(_BEGINNING in text for text in metadata.values()):
        raise ValueError("its description has another name")
    if KEY not in metadata:
        raise CheckpointError(f"{path}: a safetensors file, but not one that stmn wrote")
    try:
        description = parse_json(metadata[KEY])
    except ValueError as error:
        raise ValueError(f"its description: {error}") from error
    if not isinstance(description, dict):
        raise ValueError("its description is not a table")
    digest = description.pop(_DIGEST, None)
    if digest is None and any(_is_digest(value) for value in description.values()):
        raise ValueError("its description is not what was written")
    if digest is None:
        notice(f"{path}: it has no digest, as files of older versions and of other programs: damage may go unnoticed")
        return description, None
    tensors = str(digest[_TENSORS]) if _is_digest(digest) else ""
    if digest != {_TENSORS: tensors, _CONTENT: _digest_description(description, tensors)}:
        raise ValueError("its description is not what was written")
    return description, tensors


def _is_digest(value: Any) -> bool:
    """True for a valid form of a description's entry `digest`."""
    return isinstance(value, dict) and value.keys() == {_TENSORS, _CONTENT}


@contextmanager
def _report_damage(path: Path, remedy: str) -> Iterator[None]:
    """Turn the errors of reading a safetensors file into `CheckpointError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: is damaged: {why}; {remedy}") from error


def _digest_description(description: dict[str, Any], tensors: str) -> str:
    """Return the digest of a description, without its entry `digest`, and of the tensors' digest."""
    return hashlib.sha256(json.dumps([tensors, description], sort_keys=True).encode()).hexdigest()


def _digest_tensors(tensors: dict[str, Tensor]) -> str:
    """Return the digest of contiguous tensors: of each one's name, type, shape and digest of its bytes, by name."""
    with ThreadPoolExecutor(min(_THREADS, count_cores())) as threads:
        bytes_ = dict(zip(tensors, threads.map(_digest_tensor, tensors.values()), strict=True))
    lines = [[name, str(tensors[name].dtype), list(tensors[name].shape), bytes_[name]] for name in sorted(tensors)]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def _digest_tensor(tensor: Tensor) -> str:
    """Return the digest of a tensor's bytes."""
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def _current_name(name: str) -> str:
    """Return the current name of a tensor."""
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name
