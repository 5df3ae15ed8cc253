"""JSON that may be damaged, or written by anybody: what can't be used is an error of one line.

JSON as Python reads it has NaN, numbers of thousands of digits, halves of characters, and depths that end the program.
None of them is read here.
"""

import json
import re
from math import isfinite
from pathlib import Path
from typing import Any

from stmn.errors import DataError
from stmn.runtime.files import digest, read_regular, write_json

#: levels of tables and lists within each other
_DEPTH = 50
#: whole numbers of more bits are no count, size, seed or time
_BITS = 64
#: bytes or characters; what is read of them takes up to 30 times as many
_LONGEST = 2**26
#: the entry of a record that vouches for the others
_DIGEST = "digest"
#: halves of characters, except those in which file names hold bytes that are no UTF-8
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def parse_json(content: bytes | str) -> Any:
    """Read JSON.

    Raises:
        ValueError: it can't be used; the message says why, to follow "is damaged: ".
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
    except ValueError as error:  # of Python's own limit
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
    """Write a table as JSON, whole or not at all, with a digest of what it holds."""
    plain = json.loads(json.dumps(content))  # as it will be read: keys are text, tuples are lists
    write_json(path, plain | {_DIGEST: digest(plain)})


def read_record(path: Path) -> dict[str, Any]:
    """Read what `write_record` wrote. One without a digest, of an older version, is read as it is.

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
    """Refuse what JSON or TOML can hold, and nothing here can use.

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
