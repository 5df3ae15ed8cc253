"""Changes that the user makes to a recipe on the command line: `--set motion.steps=100`."""

import tomllib
from collections.abc import Sequence
from typing import Any

from stmn.errors import near_match
from stmn.options import MODELS, options_of

#: tables of a recipe that are not stages
_TABLES = ("recipe", "sweep")
_FORM = "write STAGE.KEY=VALUE, or KEY=VALUE for all stages that have such a key"


def change_recipe(content: dict[str, Any], changes: Sequence[str]) -> list[str]:
    """Change the content of a recipe's file in place, before it is checked.

    Args:
        content: The tables of the file.
        changes: Each `STAGE.KEY=VALUE`, or `KEY=VALUE` for all stages that have such an option; `recipe.KEY=VALUE` and
            `sweep.KEY=VALUE` for these tables. A key in a table has another dot: `videos.dataset_options.train=100`. A
            value is written as in TOML; text needs no quotes.

    Returns:
        Mistakes, one line each.
    """
    wrong = []
    for change in changes:
        path, equals, text = change.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not equals or not all(keys):
            wrong.append(f"--set {change}: {_FORM}")
            continue
        tables, keys, mistake = _find_tables(content, keys)
        if mistake:
            wrong.append(f"--set {change}: {mistake}")
        for table in tables:
            *outer, last = keys
            for key in outer:
                inner = table.get(key)
                table[key] = dict(inner) if isinstance(inner, dict) else {}
                table = table[key]
            table[last] = _read(text.strip())
    return wrong


def _find_tables(content: dict[str, Any], keys: list[str]) -> tuple[list[dict[str, Any]], list[str], str]:
    """Return the tables that a path of keys leads to, the keys within them, and an error message, "" if none."""
    listed = content.get("stage", [])
    stages = [stage for stage in listed if isinstance(stage, dict)] if isinstance(listed, list) else []
    if len(keys) > 1 and keys[0] in _TABLES:
        table = content.setdefault(keys[0], {})
        return ([table] if isinstance(table, dict) else []), keys[1:], ""
    if named := [stage for stage in stages if len(keys) > 1 and stage.get("id") == keys[0]]:
        return named, keys[1:], ""
    models = {id(stage): options_of(verb) for stage in stages if (verb := stage.get("uses")) in MODELS}
    known = {number: {option.key for option in model.described().values()} for number, model in models.items()}
    if having := [stage for stage in stages if keys[0] in known.get(id(stage), ())]:
        return having, keys, ""
    ids = [str(stage.get("id")) for stage in stages]
    if len(keys) > 1:
        return [], keys, f"no stage '{keys[0]}'{near_match(keys[0], [*ids, *_TABLES])}; it has {', '.join(ids)}"
    every = sorted({key for one in known.values() for key in one})
    return [], keys, f"no stage has an option '{keys[0]}'{near_match(keys[0], every)}"


def _read(text: str) -> Any:
    """A value as in TOML, or the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError, RecursionError):
        return text
