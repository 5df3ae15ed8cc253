"""Files that are whole or absent: written under a temporary name, flushed, renamed."""

import codecs
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stmn.errors import DataError, StmnError

#: of files of weights and scores, ours and others'
_ENDINGS = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".mat")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it, on any error remove it.

    Raises:
        StmnError: the disk is full, or the folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise StmnError(f"{path}: can't be written: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; these are the user's
        temporary.replace(path)
    except OSError as error:
        raise StmnError(f"{path}: can't be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """The text of a file that a person wrote, in UTF-8, with or without a byte-order mark.

    Raises:
        DataError: it can't be read, or it is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error
    refuse_utf16(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: is not UTF-8 text; save it as UTF-8") from error


def refuse_utf16(path: Path) -> None:
    """Raise `DataError` if a text file begins with UTF-16's byte-order mark, as some spreadsheets and editors write."""
    with open(path, "rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(f"{path}: is UTF-16 text; save it as UTF-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    # ASCII escapes: file names need not be valid Unicode
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def digest(content: Any) -> str:
    """A hash (16 hex digits) of JSON content, the same on every machine."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """A hash (16 hex digits) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def names_path(text: str) -> bool:
    """True if text is written like a path, with a slash or the ending of a file of weights or scores."""
    return "/" in text or text.endswith(_ENDINGS)
