"""Write options as command-line flags: the opposite of reading a command line."""

from collections.abc import Mapping
from typing import Any

from stmn.options.base import StageOptions
from stmn.runtime.toml_files import format_toml


def write_flags(model: type[StageOptions], values: Mapping[str, Any]) -> list[str]:
    """The arguments of a command line, not quoted for a shell.

    Args:
        model: The options model.
        values: Key of an option -> its value, as in a recipe; options that are None are left out.
    """
    found: list[str] = []
    for option in model.described().values():
        value = values.get(option.key)
        if value is None:
            continue
        if option.shape == "switch":
            found.append(option.flag if value else f"--no-{option.flag[2:]}")
        elif option.shape == "list" and isinstance(value, list | tuple):
            found += [option.flag, ",".join(map(str, value))]
        elif option.shape == "table":
            found += [option.flag, ",".join(f"{key}={_plain(item)}" for key, item in value.items())]
        else:
            found += [option.flag, str(value)]
    return found


def _plain(item: Any) -> str:
    """A value in a table: text as it is, anything else as TOML."""
    return item if isinstance(item, str) else format_toml(item)
