"""What docs/experiments.md already says: the results of experiments that a workspace doesn't hold stay as they are."""

import re
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

from stmn.options import options_of

#: a table of real clips: for each column's title, what stands beside each row's name
Columns = dict[str, dict[str, str]]
#: the new name of each stage that was renamed, by the old one
Renamed = dict[str, str]


def read_sections(page: str) -> dict[str, str]:
    """The text below each title of the page."""
    parts = re.split(r"(?m)^## (.+)\n", page)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def find_results(section: str, files: Sequence[Path]) -> tuple[str, Renamed] | None:
    """What a section says after its question, if it has results and what they were made from is still the same.

    Comments, names of stages, and options that don't decide the result may have changed: the results get the new names.

    Args:
        section: the text of the section.
        files: the recipe, and the starting weights.

    Returns:
        The text, and the new name of each stage that was renamed. None if there are no results, or they are stale.
    """
    found = re.search(r"(?m)^\|.*", section)
    commits = re.search(r"(?m)^- commit: (\w+)", section)
    if found is None or commits is None:
        return None
    renamed: Renamed = {}
    for file in files:
        names = _find_renamed(file, commits[1])
        if names is None:
            return None
        renamed |= names
    return rename_stages(section[found.start() :].strip() + "\n", renamed), renamed


def rename_stages(text: str, renamed: Renamed) -> str:
    """A text in which renamed stages have their new names."""
    if not renamed:
        return text
    names = "|".join(sorted(map(re.escape, renamed), key=len, reverse=True))
    return re.sub(rf"(?<![\w-])(?:{names})(?![\w-])", lambda found: renamed[found[0]], text)


def _find_renamed(path: Path, commit: str) -> Renamed | None:
    """The stages of a recipe that were renamed since a commit; None if anything else of the file has changed.

    Nothing has changed if Git doesn't know the commit.
    """
    git = ["git", "-C", str(path.parent)]
    if subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True).returncode:
        print(f"{path.name}: commit {commit} of its results is unknown: they stay, though it may have changed since")
        return {}
    was = subprocess.run([*git, "show", f"{commit}:./{path.name}"], capture_output=True).stdout
    now = path.read_bytes()
    if was == now:
        return {}
    if path.suffix != ".toml" or not was:
        return None
    names = [[stage["id"] for stage in tomllib.loads(text.decode()).get("stage", [])] for text in (was, now)]
    if len(names[0]) != len(names[1]):
        return None
    renamed = {old: new for old, new in zip(*names, strict=True) if old != new}
    recipes = [tomllib.loads(text) for text in (rename_stages(was.decode(), renamed), now.decode())]
    for recipe in recipes:
        recipe["recipe"].pop("about", None)
        for stage in recipe.get("stage", []):
            for option in options_of(stage["uses"]).described().values():
                if option.execution:  # speed or place, not the result
                    stage.pop(option.name, None)
    return renamed if recipes[0] == recipes[1] else None


def read_columns(table: str) -> Columns:
    """The columns of a Markdown table, without its first, which has the names of the rows."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line.startswith("|")]
    if not lines:
        return {}
    cells = [[cell.strip() for cell in line] for line in lines]
    return {
        title: {line[0]: line[number] for line in cells[2:] if line[number]}
        for number, title in enumerate(cells[0])
        if number
    }


def write_columns(columns: Columns) -> str:
    """A Markdown table of columns; each row's name stands once, in the order in which the columns name it."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = [f"|  | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    lines += [f"| {name} | {' | '.join(column.get(name, '') for column in columns.values())} |" for name in names]
    return "\n".join(lines) + "\n"
