"""Names that strangers chose: what may name a folder, and how text that may hold anything is printed."""

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import PurePath, PureWindowsPath
from typing import Any

from stmn.runtime.platforms import TAKES_ALL_NAMES

#: bytes of a name that every file system takes, less those that temporary names add
MOST_BYTES = 200

#: what acts on a terminal or turns the order of letters instead of being a letter: control characters, marks and
#: overrides of direction, ends of lines and paragraphs, tags, and what stands for a byte that is no text. Joiners are
#: left alone, since scripts and emoji need them.
_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
#: names of devices on Windows, with any ending
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
#: characters that Windows allows in no name
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')


def printable(text: str) -> str:
    r"""Return text as one line that only shows letters: `\x1b[2J` in place of what clears a screen."""
    return escape_letters(text, lambda letter: repr(letter)[1:-1])


def escape_letters(text: str, escape: Callable[[str], str]) -> str:
    """Return text in which `escape` has replaced each letter that acts instead of being one."""
    return _ACTING.sub(lambda found: escape(found[0]), text)


def find_fault(name: str) -> str:
    """Say why a name can't be that of a new folder, as "is longer than 200 bytes"; empty if it can."""
    if not name or name in (".", ".."):
        return "names no folder"
    if has_slash(name):
        return "has a slash"
    if _ACTING.search(name):
        return "has control characters"
    if name != name.strip():
        return "begins or ends with a blank"
    if len(os.fsencode(name)) > MOST_BYTES:
        return f"is longer than {MOST_BYTES} bytes"
    if not TAKES_ALL_NAMES and portable(name) != name:
        return "is no name that Windows takes"
    return ""


def has_slash(text: str) -> bool:
    """True for a path of several parts, or of one and a slash; on Windows with a backslash too."""
    return "/" in text or os.sep in text


def folder_name(label: str) -> str:
    """The label as the name of a folder: itself, or on Windows with `_` for what can't be in one there."""
    return label if TAKES_ALL_NAMES else portable(label)


def portable(name: str) -> str:
    """Return a name with `_` for what some file system forbids: it stays in its folder, visible, on Windows too."""
    flat = _FORBIDDEN.sub("_", _ACTING.sub("_", name.strip("/"))).rstrip(". ")
    return f"_{flat}" if not flat or flat[0] in ". " or _DEVICES.match(flat) else flat


def without_folders(value: Any) -> Any:
    """A value in which paths of this machine, absolute or in a home, have their last name alone.

    Args:
        value: JSON.
    """
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, str) and value.startswith(("/", "~/")):
        return PurePath(value).name
    if isinstance(value, str) and (path := PureWindowsPath(value)).is_absolute():
        return path.name
    return value


def cut_bytes(name: str, most: int) -> str:
    """Return the beginning of a name, in at most so many bytes of UTF-8 and whole letters."""
    cut = name.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
    while cut and unicodedata.combining(name[len(cut) : len(cut) + 1] or "a"):  # an accent belongs to its letter
        cut = cut[:-1]
    return cut
