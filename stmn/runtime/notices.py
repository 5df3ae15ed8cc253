"""Notices from code that has no `Progress`: what a person should know although nothing failed, each line once.

They go to Python's logger `stmn`, which prints to standard error unless a program decides otherwise. The command line
prints them like its own.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_logger = logging.getLogger("stmn")
_noticed: set[str] = set()


def notice(line: str) -> None:
    """Print a line, unless this process has already printed it."""
    if line not in _noticed:
        _noticed.add(line)
        _logger.warning("%s", line)


@contextmanager
def notices_to(say: Callable[[str], None]) -> Iterator[None]:
    """Send the notices of a block to `say` instead of standard error; lines printed before may appear again."""
    handler = _Handler(say)
    _noticed.clear()
    _logger.addHandler(handler)
    try:
        yield
    finally:
        _logger.removeHandler(handler)


class _Handler(logging.Handler):
    """Passes the text of records to a function."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on a line."""
        self._say(record.getMessage())
