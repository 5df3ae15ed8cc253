"""Read files of `torch.save` that hold only weights and plain values.

Torch's own safe reading executes no code of the file. But it allows functions that can take all memory, such as
`bytearray` with a large number, so the names in a file are checked first.
"""

import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from stmn.errors import CheckpointError
from stmn.runtime.files import open_regular

#: what a state dict consists of, in addition to storages and types: module and name, as in a pickle
_ALLOWED = frozenset({
    "collections OrderedDict", "collections defaultdict", "__builtin__ set", "builtins set", "__builtin__ dict",
    "torch Size", "torch device", "torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
})  # fmt: skip
#: largest pickle in a file, in bytes; weights are stored outside of it
_LONGEST_PICKLE = 2**26
#: the older format is five pickles, followed by the storages
_OLD_PICKLES = 5


def load_pickle(path: Path) -> Any:
    """Load a file of `torch.save`.

    Raises:
        CheckpointError: it holds anything but plain values and tensors.
        OSError, RuntimeError, EOFError, ValueError, KeyError: it is damaged.
    """
    with open_regular(path) as file:
        start = file.read(4)
        file.seek(0)
        if start == b"PK\x03\x04":
            plain = _is_plain_zip(file, path.stat().st_size)
        elif start[:1] == b"\x80":
            plain = all(_is_plain(file) for _ in range(_OLD_PICKLES))
        else:
            raise CheckpointError(f"{path}: not a weights file; use .safetensors, .pth (written by torch) or .mat")
    if not plain:
        raise CheckpointError(f"{path}: contains more than weights, so it was not loaded")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError):
        raise
    except Exception as error:  # pickle's own errors
        raise CheckpointError(f"{path}: contains more than weights, so it was not loaded") from error


def _is_plain_zip(file: IO[bytes], size: int) -> bool:
    """True if a zip file unpacks to no more bytes than its size, and its pickle names nothing but parts of weights."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            pickles = [part for part in parts if part.filename.endswith("data.pkl")]
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)  # as torch does
            if not stored or sum(part.file_size for part in parts) > size or len(pickles) != 1:
                return False
            if pickles[0].file_size > _LONGEST_PICKLE:
                return False
            with archive.open(pickles[0]) as opened:
                return _is_plain(opened)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError("truncated or damaged") from error


def _is_plain(file: IO[bytes]) -> bool:
    """True if the pickle at the file's position names nothing but parts of weights; moves the position past it."""
    start = file.tell()
    for operation, argument, _ in pickletools.genops(file):
        if file.tell() - start > _LONGEST_PICKLE:
            return False
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            value = getattr(torch, name, None) if module == "torch" else None
            if not (argument in _ALLOWED or isinstance(value, torch.dtype) or _is_storage(module, name)):
                return False
        elif operation.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            return False
    return True


def _is_storage(module: str, name: str) -> bool:
    """True for the name of a storage class, such as `torch FloatStorage`."""
    return module in ("torch", "torch.storage") and name.endswith("Storage") and name.isalnum()
