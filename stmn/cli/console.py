"""Print text for people: answers to standard output, messages to standard error. Both honour NO_COLOR.

All output goes through here. Names of files, classes, videos, runs and recipes are data: nothing in them controls the
terminal, ends a line, or is read as rich's markup.
"""

import io
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.text import Text

from stmn.runtime.names import escape_letters, printable

#: the most errors that are printed at once, and the most letters of a message: a screenful
_MOST_ERRORS, _MOST_LETTERS = 30, 2000


class _PlainConsole(Console):
    """Prints strings as they are, each on one line; only our own `Text` objects have styles."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as text."""
        return super().render_str(printable(text), **options)


#: standard error: notices, errors, progress
messages = _PlainConsole(stderr=True)
#: standard output while `answers_alone` keeps it; None at other times
_kept: list[TextIO | None] = [None]


def answers() -> Console:
    """Standard output, as wide as the terminal is now."""
    return _PlainConsole()


def answer(line: str, err: bool = False) -> None:
    """Print a line on standard output, or on standard error."""
    typer.echo(printable(line), file=None if err else _kept[0], err=err)


def answer_json(content: Any, indent: int | None = None, letters: bool = False) -> None:
    """Print JSON on standard output.

    Args:
        content: what to print; numbers that are not finite, which JSON lacks, become null.
        indent: spaces per level; None: one line.
        letters: print letters beyond ASCII as they are.
    """
    try:
        text = json.dumps(content, indent=indent, ensure_ascii=not letters, allow_nan=False)
    except ValueError:
        text = json.dumps(_without_nan(content), indent=indent, ensure_ascii=not letters)
    escaped = "\n".join(escape_letters(line, lambda letter: json.dumps(letter)[1:-1]) for line in text.split("\n"))
    typer.echo(escaped, file=_kept[0])


@contextmanager
def answers_alone() -> Iterator[None]:
    """Reserve standard output for `answer_json`: what plugins and libraries print goes to standard error."""
    stdout = sys.stdout
    stdout.flush()
    number = copy = None
    with suppress(AttributeError, io.UnsupportedOperation):  # a stream without a file
        number = stdout.fileno()
        copy = os.dup(number)
        os.dup2(2, number)
    if copy is None:
        _kept[0] = stdout
    else:
        kept = io.FileIO(copy, "w", closefd=False)
        _kept[0] = io.TextIOWrapper(io.BufferedWriter(kept), encoding=stdout.encoding, errors=stdout.errors)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        _kept[0], sys.stdout = None, stdout
        if copy is not None and number is not None:
            os.dup2(copy, number)
            os.close(copy)


def say(line: str) -> None:
    """Print a message on one line, even if names in it have line breaks."""
    messages.print(_cut(line), soft_wrap=True)


def say_error(*lines: str) -> None:
    """Print `error: LINE` for each mistake."""
    for line in lines[:_MOST_ERRORS]:
        messages.print(f"error: {_cut(line)}", style="red", soft_wrap=True)
    if more := lines[_MOST_ERRORS:]:
        messages.print(f"error: {len(more):,} more of this kind", style="red", soft_wrap=True)


def _cut(line: str) -> str:
    """Cut a line to fit a screen."""
    return line if len(line) < _MOST_LETTERS else f"{line[:_MOST_LETTERS]}..."


def _without_nan(content: Any) -> Any:
    """Replace numbers that are not finite by None."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
