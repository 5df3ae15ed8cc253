"""Export to a PyTorch program, which runs without this package."""

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stmn.errors import CheckpointError
from stmn.exporting.about import describe_use
from stmn.exporting.base import Runner
from stmn.exporting.program import make_program
from stmn.nets.checkpoint import Description, parse_description
from stmn.nets.network import Network
from stmn.runtime.files import read_regular
from stmn.runtime.json_files import parse_json

#: the members of the archive, in its folder `extra`, that hold the description and the digest of all the rest
_ABOUT, _DIGEST = "stmn", "digest"
#: the archive member that differs in each export
_SERIAL = ".data/serialization_id"
#: the largest file that is read, bytes
_LARGEST = 2**33


class Pt2Exporter:
    """Writes a `.pt2` file: `torch.export.load("model.pt2").module()(rgb, flow)` gives the logits."""

    suffix = ".pt2"

    def write(self, network: Network, description: Description, example: Sequence[Tensor], path: Path) -> None:
        """Write the program.

        Args:
            network: The network.
            description: Its classes, preprocessing and plugins.
            example: A batch for each stream, (B, T, channels, H, W).
            path: Where to write.

        Raises:
            StmnError: The network can't be expressed.
        """
        program = make_program(network, example)
        program.example_inputs = None
        about = json.dumps(describe_use(description, "float32"))
        plain = _save(program, {_ABOUT: about, _DIGEST: ""})
        path.write_bytes(_save(program, {_ABOUT: about, _DIGEST: _digest(_members(plain))}))

    def runner(self, path: Path) -> Runner:
        """Load the program. Raises `CheckpointError` if the file is damaged, or would run its own Python code."""
        content = read_regular(path, _LARGEST)
        _check(content, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.export.load(io.BytesIO(content)).module()

        @torch.inference_mode()
        def run(given: Sequence[Tensor]) -> list[Tensor]:
            return list(module(*given))

        return run

    def read(self, path: Path) -> Description:
        """Read the description in a file. Raises `CheckpointError` if it is damaged, or was not written by stmn."""
        try:
            content = read_regular(path, _LARGEST)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such file") from error
        about = _check(content, path)
        if about is None:
            raise CheckpointError(
                f"{path}: a program without stmn's metadata, so nothing says how to prepare its input; use one that "
                f"stmn export wrote"
            )
        try:
            values = parse_json(about)
        except ValueError as error:
            raise CheckpointError(f"{path}: its metadata is damaged: {error}; export it again") from error
        return parse_description(values if isinstance(values, dict) else {}, path)


def _save(program: Any, extra: dict[str, str]) -> bytes:
    """The archive of a program, as bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, buffer, extra_files=extra)
    return buffer.getvalue()


def _members(content: bytes) -> dict[str, bytes]:
    """Name -> content of an archive's members; names are without the top folder."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _digest(members: dict[str, bytes]) -> str:
    """The SHA-256 of all members but the digest and the serial number."""
    kept = {name: member for name, member in members.items() if name not in (f"extra/{_DIGEST}", _SERIAL)}
    lines = [[name, hashlib.sha256(member).hexdigest()] for name, member in sorted(kept.items())]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def _check(content: bytes, path: Path) -> bytes | None:
    """Check that an archive is unchanged and holds no Python code. Return its description, None if it has none."""
    try:
        members = _members(content)
    except Exception as error:  # zipfile raises errors of many kinds
        raise _damaged(path) from error
    about, written = members.get(f"extra/{_ABOUT}"), members.get(f"extra/{_DIGEST}")
    if (about is None) != (written is None) or (written is not None and written.decode("latin-1") != _digest(members)):
        raise _damaged(path)
    for name, member in members.items():  # torch.export.load would unpickle these, and so run code in them
        if name.endswith("_config.json") and b'"use_pickle":true' in b"".join(member.split()):
            raise CheckpointError(f"{path}: holds pickled tensors, which may run code; export it again")
        if name.endswith(".pt") and member:
            try:
                torch.load(io.BytesIO(member), weights_only=True)
            except Exception as error:
                raise CheckpointError(f"{path}: holds a pickle, which may run code; export it again") from error
    return about


def _damaged(path: Path) -> CheckpointError:
    """The error for a damaged file."""
    return CheckpointError(f"{path}: is damaged: not what stmn export wrote; use another copy, or export it again")
