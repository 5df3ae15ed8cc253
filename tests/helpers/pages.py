"""Pages of the docs, and the commands in their code blocks."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
README = CHECKOUT / "README.md"
PAGES = [README, CHECKOUT / "CONTRIBUTING.md", *sorted(CHECKOUT.glob("docs/**/*.md")), *CHECKOUT.glob("plugins/*/*.md")]
#: words that stand for something in a command
PLACEHOLDERS = {"...", "COMMAND"}


def name(page: Path) -> str:
    return page.relative_to(CHECKOUT).as_posix()


def split_command(text: str) -> list[str] | None:
    """The arguments of `stmn`, without comment and placeholders; None for anything else."""
    found = re.match(r"\s*(?:torchrun .*-m )?stmn (.+)", re.sub(r"(^|\s)#\s.*", "", text))
    return [word for word in shlex.split(found[1]) if word not in PLACEHOLDERS] if found else None


def commands(text: str) -> Iterator[list[str]]:
    """The commands in code blocks, except usage lines."""
    blocks = re.findall(r"^(?: {4}.*\n?)+", text, re.MULTILINE) + re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    for line in "\n".join(blocks).splitlines():
        for part in re.split(r"\s[|;]\s|&&", line) if "[OPTIONS]" not in line else ():
            if found := split_command(part):
                yield found
