"""Untrusted names: which may name a folder, and how to print arbitrary text safely."""

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import PurePath, PureWindowsPath
from typing import Any

from stmn.runtime.platforms import TAKES_ALL_NAMES

#: longest name that every file system accepts, in bytes, minus what temporary names add
MOST_BYTES = 200

#: characters that control a terminal or the order of letters instead of being letters: control characters, marks and
#: overrides of direction, line and paragraph separators, tags, and surrogates for bytes that are not text. Joiners are
#: allowed, because scripts and emoji need them.
_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
#: names of devices on Windows, with any suffix
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
#: characters that Windows doesn't allow in names
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')


def printable(text: str) -> str:
    r"""Return text as one line without control characters: `\x1b[2J` instead of a code that clears the screen."""
    return escape_letters(text, lambda letter: repr(letter)[1:-1])


def escape_letters(text: str, escape: Callable[[str], str]) -> str:
    """Return text with each control character replaced by `escape`."""
    return _CONTROL_CHARACTERS.sub(lambda found: escape(found[0]), text)


def name_problem(name: str) -> str:
    """Return why a new folder can't have a name, such as "is longer than 200 bytes"; empty if it can."""
    if not name or name in (".", ".."):
        return "names no folder"
    if has_slash(name):
        return "has a slash"
    if _CONTROL_CHARACTERS.search(name):
        return "has control characters"
    if name != name.strip():
        return "begins or ends with a blank"
    if len(os.fsencode(name)) > MOST_BYTES:
        return f"is longer than {MOST_BYTES} bytes"
    if not TAKES_ALL_NAMES and portable(name) != name:
        return "is no name that Windows takes"
    return ""


def has_slash(text: str) -> bool:
    """True for text with a slash; on Windows also with a backslash."""
    return "/" in text or os.sep in text


def folder_name(label: str) -> str:
    """Return a label as a folder name: unchanged, or on Windows with `_` for characters that are not allowed."""
    return label if TAKES_ALL_NAMES else portable(label)


def portable(name: str) -> str:
    """Return a name that is valid on every file system, stays in its folder and is visible; `_` replaces the rest."""
    flat = _FORBIDDEN.sub("_", _CONTROL_CHARACTERS.sub("_", name.strip("/"))).rstrip(". ")
    return f"_{flat}" if not flat or flat[0] in ". " or _DEVICES.match(flat) else flat


def without_folders(value: Any) -> Any:
    """Return a value in which paths of this machine, absolute or in a home, are reduced to their last name.

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
    """Return the beginning of a name: at most `most` bytes of UTF-8, in whole letters."""
    cut = name.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
    while cut and unicodedata.combining(name[len(cut) : len(cut) + 1] or "a"):  # an accent belongs to its letter
        cut = cut[:-1]
    return cut
