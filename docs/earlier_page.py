"""What docs/experiments.md already says: the results of experiments that a workspace doesn't hold stay as they are."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

#: a table of real clips: for each column's title, what stands beside each row's name
Columns = dict[str, dict[str, str]]


def read_sections(page: str) -> dict[str, str]:
    """The text below each title of the page."""
    parts = re.split(r"(?m)^## (.+)\n", page)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def find_results(section: str, files: Sequence[Path]) -> str | None:
    """What a section says after its question, if it has results and what they were made from is still the same.

    Args:
        section: the text of the section.
        files: the recipe, and the starting weights.
    """
    found = re.search(r"(?m)^\|.*", section)
    commits = re.search(r"(?m)^- commit: (\w+)", section)
    if found is None or commits is None or any(_has_changed(file, commits[1]) for file in files):
        return None
    return section[found.start() :].strip() + "\n"


def _has_changed(path: Path, commit: str) -> bool:
    """True if a file differs from that of a commit; False too if Git doesn't know the commit."""
    git = ["git", "-C", str(path.parent)]
    if subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True).returncode:
        print(f"{path.name}: commit {commit} of its results is unknown: they stay, though it may have changed since")
        return False
    return subprocess.run([*git, "diff", "--quiet", commit, "--", path.name], capture_output=True).returncode == 1


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
