"""Notices of code that has no `Progress`: what a person should know though nothing failed, each line once.

They go to Python's logger `stmn`, whose lines show on standard error unless a program decides otherwise. The command
line prints them as it prints its own.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_logger = logging.getLogger("stmn")
_noticed: set[str] = set()


def notice(line: str) -> None:
    """Show a person a line, unless this process has shown it already."""
    if line not in _noticed:
        _noticed.add(line)
        _logger.warning("%s", line)


@contextmanager
def notices_to(say: Callable[[str], None]) -> Iterator[None]:
    """Give the notices of a block to `say`, in place of standard error; each is news again."""
    handler = _Handler(say)
    _noticed.clear()
    _logger.addHandler(handler)
    try:
        yield
    finally:
        _logger.removeHandler(handler)


class _Handler(logging.Handler):
    """Hands the text of records on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on a line."""
        self._say(record.getMessage())
