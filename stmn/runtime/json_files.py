"""Read JSON that may be damaged or untrusted: unusable content is a one-line error.

Python's JSON parser accepts NaN, numbers of thousands of digits, lone surrogates, and nesting that crashes the program.
All of these are refused here.
"""

import json
import re
from math import isfinite
from pathlib import Path
from typing import Any

from stmn.errors import DataError
from stmn.runtime.files import digest, read_regular, write_json

#: largest nesting depth of tables and lists
_DEPTH = 50
#: integers of more bits can't be a count, size, seed or time
_BITS = 64
#: longest content in bytes or characters; parsed, it takes up to 30 times as much memory
_LONGEST = 2**26
#: the entry of a record with the digest of the others
_DIGEST = "digest"
#: lone surrogates, except those that stand for non-UTF-8 bytes in file names
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def parse_json(content: bytes | str) -> Any:
    """Read JSON.

    Raises:
        ValueError: it can't be used; the message says why, worded to follow "is damaged: ".
    """
    if len(content) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST / 2**20:g} MiB")
    try:
        value = json.loads(content.decode("utf-8") if isinstance(content, bytes) else content)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON in line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(f"nested more than {_DEPTH} deep") from error
    except ValueError as error:  # Python's own limit
        raise ValueError("a number has too many digits") from error
    check_values(value)
    return value


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        DataError: it can't be read, or it is damaged.
    """
    try:
        content = read_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error
    try:
        return parse_json(content)
    except ValueError as error:
        raise DataError(f"{path}: is damaged: {error}") from error


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write a table as JSON, whole or not at all, with a digest of its content."""
    plain = json.loads(json.dumps(content))  # as it will be read: keys are text, tuples are lists
    write_json(path, plain | {_DIGEST: digest(plain)})


def read_record(path: Path) -> dict[str, Any]:
    """Read a record of `write_record`. A record of an older version, without a digest, is read unchecked.

    Raises:
        FileNotFoundError: there is none.
        DataError: it can't be read, or it is damaged.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: is damaged: not a table")
    written = content.pop(_DIGEST, None)
    if written is not None and written != digest(content):
        raise DataError(f"{path}: is damaged: not what was written (digest)")
    return content


def check_values(value: Any) -> None:
    """Refuse values that JSON or TOML can hold but that are never valid here.

    Raises:
        ValueError: there is such a value; the message says what it is.
    """
    level = [value]
    for _ in range(_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.keys()
                inner += item.values()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str):
                if not item.isascii() and _HALVES.search(item):
                    raise ValueError("half of a character (a lone surrogate)")
            elif isinstance(item, float):
                if not isfinite(item):
                    raise ValueError("a number is NaN or infinite")
            elif isinstance(item, int) and item.bit_length() > _BITS:
                raise ValueError("a number has too many digits")
        if not inner:
            return
        level = inner
    raise ValueError(f"nested more than {_DEPTH} deep")
