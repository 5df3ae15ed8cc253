"""Where text for people goes: answers to standard output, messages to standard error. Both honour NO_COLOR."""

from rich.console import Console
from rich.text import Text

from stmn.runtime.names import printable

#: errors that are printed at a time, and letters of a message: a screen full
_MOST_ERRORS, _MOST_LETTERS = 30, 2000

#: standard error: notices, errors, progress
messages = Console(stderr=True, highlight=False)


def answers() -> Console:
    """Standard output, as wide as the terminal is now."""
    return Console(highlight=False)


def say(line: str) -> None:
    """Print a message on one line, whatever names it holds."""
    messages.print(Text(_cut(line)), soft_wrap=True)


def say_error(*lines: str) -> None:
    """Print `error: LINE` for each mistake."""
    for line in lines[:_MOST_ERRORS]:
        messages.print(Text(f"error: {_cut(line)}", style="red"), soft_wrap=True)
    if more := lines[_MOST_ERRORS:]:
        messages.print(Text(f"error: {len(more):,} more of this kind", style="red"), soft_wrap=True)


def _cut(line: str) -> str:
    """A line of letters alone, that fits a screen."""
    line = printable(line[:_MOST_LETTERS])
    return line if len(line) < _MOST_LETTERS else f"{line[:_MOST_LETTERS]}..."
