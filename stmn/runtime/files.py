"""Write files whole or not at all: under a temporary name, flushed, renamed. Read only regular files."""

import codecs
import errno
import filecmp
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any

from stmn.errors import DataError, StmnError, UsageError
from stmn.runtime.names import has_slash
from stmn.runtime.platforms import AS_IS, NO_WAIT, mark_as_used, remove_unused

#: suffixes of files of weights and scores, this project's and others'
_ENDINGS = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".mat")
#: longest text that is read, in bytes; the longest published list has 150 MB
_LONGEST_TEXT = 2**29
#: temporary names of `atomic_write` and of safetensors
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.part(\.\w+)?|\.tmp\w{6}")
#: kinds of names other than regular files
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it, on any error remove it.

    Raises:
        StmnError: the disk is full, or the folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".part{path.suffix}", dir=path.parent)
    except OSError as error:
        raise StmnError(f"{path}: can't be written: {error.strerror or error}") from error
    temporary, marked = Path(name), mark_as_used(handle)  # unmarked files count as left over
    try:
        yield temporary
        with open(temporary, "r+b") as file:  # Windows flushes only files that are open for writing
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; give this one the usual permissions
        temporary.replace(path)
    except OSError as error:
        raise StmnError(f"{path}: can't be written: {error.strerror or error}") from error
    except StmnError as error:  # from a writer: replace the temporary path in its message
        own, final = name.removesuffix(path.suffix), str(path).removesuffix(path.suffix)
        error.args = tuple(line.replace(own, final) for line in error.lines)
        raise
    finally:
        temporary.unlink(missing_ok=True)
        if marked is not None:
            os.close(marked)


def is_temporary(name: str) -> bool:
    """True for a temporary name, of a file that is not complete yet."""
    return _TEMPORARY.fullmatch(name) is not None


def holds_same(path: Path, other: Path) -> bool:
    """True if two files exist and have the same bytes."""
    return path.is_file() and other.is_file() and filecmp.cmp(path, other, shallow=False)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all; nothing is written if the target already has the same bytes.

    Raises:
        StmnError: the disk is full, or the folder can't be written.
    """
    if not holds_same(target, source):
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove temporary files that killed processes have left in a folder.

    Files of `atomic_write` that a living process is writing stay; so do all if the file system has no locks. The
    caller must make sure that nobody else is writing safetensors files there.

    Args:
        folder: the folder.
        name: name of the file that was being written; by default any file, including folders below.
    """
    for path in folder.rglob(".*") if name == "*" else folder.glob(f".{glob.escape(name)}.*"):
        if is_temporary(path.name) and path.is_file() and not path.is_symlink():
            remove_unused(path)


def check_regular(path: Path | str) -> None:
    """Make sure that a path is a regular file, for libraries that open it by name.

    A pipe could make them wait forever, and a device such as /dev/zero never ends.

    Raises:
        OSError: there is no such file, or it is a folder, a pipe, a socket or a device.
    """
    _check_mode(os.stat(path).st_mode)


def open_regular(path: Path | str) -> BufferedReader:
    """Open a regular file for reading, not a folder, pipe, socket or device. Raises `OSError`."""
    check_regular(path)
    # if something else has replaced the file in the meantime, opening it must not wait
    descriptor = os.open(path, os.O_RDONLY | NO_WAIT | AS_IS)
    try:
        _check_mode(os.fstat(descriptor).st_mode)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path | str, most: int = _LONGEST_TEXT) -> bytes:
    """Read a whole regular file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it can't be read, is not a regular file, or is longer.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"is larger than {most / 2**20:g} MiB")
        return file.read(most)


def _check_mode(mode: int) -> None:
    """Raise `OSError` unless it is the mode of a regular file."""
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")


def refuse_links(folder: Path, root: Path) -> None:
    """Refuse a folder below `root` with links that lead out of it: their author would decide what is overwritten.

    `root`, and the folder in `root` that holds `folder`, may be links. So may a folder elsewhere: a person named it.

    Raises:
        UsageError: The message names the link.
    """
    if folder.is_symlink() and folder.parent.parent == root and not _is_below(folder, folder.parent):
        raise UsageError(f"{folder}: is a link that leads out of the workspace; name the folder that it leads to")
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink() and not _is_below(path, folder):
                raise UsageError(f"{path}: is a link that leads out of its folder; put what it leads to in its place")


def real_path(path: Path) -> Path:
    """Return the absolute path without links. Raises `OSError` if a link leads to itself."""
    try:
        return path.resolve()
    except RuntimeError as error:  # raised by Python before 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error


def _is_below(path: Path, folder: Path) -> bool:
    """True if a path, with links resolved, is in a folder."""
    try:
        return real_path(path).is_relative_to(real_path(folder))
    except OSError:  # a link that leads to itself
        return False


def read_text(path: Path, most: int = _LONGEST_TEXT) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        DataError: it can't be read, or it is in another encoding.
    """
    try:
        content = read_regular(path, most)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    _refuse_utf16(path, content[:2])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: is not UTF-8 text; save it as UTF-8") from error


def refuse_utf16(path: Path) -> None:
    """Raise `DataError` if a text file begins with UTF-16's byte-order mark, which some programs write."""
    with open_regular(path) as file:
        _refuse_utf16(path, file.read(2))


def _refuse_utf16(path: Path, start: bytes) -> None:
    """Raise `DataError` if a file's first bytes are UTF-16's byte-order mark."""
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise DataError(f"{path}: is UTF-16 text; save it as UTF-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    # ASCII escapes: file names need not be valid Unicode
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def digest(content: Any) -> str:
    """Return a hash (16 hex digits) of JSON content, the same on every machine."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return a hash (16 hex digits) of a file's bytes. An unchanged file is read only once per process."""
    about = path.stat()
    return _hash_file(path, about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


@lru_cache(maxsize=4096)
def _hash_file(path: Path, *about: int) -> str:
    """Hash a file; `about`, its size and times, only distinguishes cache entries."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def names_path(text: str) -> bool:
    """True if text looks like a path, with a slash or the suffix of a file of weights or scores."""
    return has_slash(text) or text.endswith(_ENDINGS)
