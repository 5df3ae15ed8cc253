"""TOML that people write: recipes, `stmn.toml`, values of flags. Any mistake is a one-line error."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from stmn.errors import DataError, UsageError
from stmn.runtime.files import read_text
from stmn.runtime.json_files import check_values

#: longest file in bytes; a recipe of a thousand stages needs a tenth of it
_LONGEST = 4 * 2**20


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        ValueError: it is not TOML, is nested too deep, or a number is too large; the message says which.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except ValueError as error:  # Python's own limit
        raise ValueError("a number has too many digits") from error
    check_values(table)
    return table


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: it can't be read, or is not TOML.
    """
    try:
        return parse_toml(read_text(path, _LONGEST))
    except DataError as error:
        raise UsageError(str(error)) from error
    except ValueError as error:
        raise UsageError(f"{path}: not readable as TOML: {error}") from error


def format_toml(value: Any) -> str:
    """Format a value as TOML on one line. Raises `ValueError` for one that TOML doesn't have."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        value.encode()  # raises for names that are not UTF-8, which TOML can't hold
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, list):
        return f"[{', '.join(map(format_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_format_key(key)} = {format_toml(item)}' for key, item in value.items())}}}"
    raise ValueError(f"TOML has no {type(value).__name__}")


def _format_key(key: str) -> str:
    """Format a key, in quotes if necessary."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else format_toml(key)
