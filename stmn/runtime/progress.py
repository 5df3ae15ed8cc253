"""How stages tell what they do, without knowing of terminals.

A stage opens a task and advances it; the command line draws it with rich, a test or a script ignores it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """A running piece of work with a known or unknown total."""

    def advance(self, count: int = 1, **fields: object) -> None:
        """`count` more units are done; `fields` (loss=0.3, failed=1) replace those shown beside the bar."""


class Progress(Protocol):
    """Where a stage reports."""

    def task(self, description: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Task]:
        """Open a task; `done` units of `total` are there already (a resumed run)."""

    def say(self, line: str) -> None:
        """One line for the person: a notice or a result."""

    def event(self, **fields: object) -> None:
        """Something for a machine that follows: what became of a video, say. Fields are JSON."""


class Silent:
    """Says nothing; the default for Python callers."""

    def advance(self, count: int = 1, **fields: object) -> None:
        """Ignored."""

    @contextmanager
    def task(self, description: str, total: int | None, unit: str, done: int = 0) -> Iterator[Task]:
        """A task that nobody watches."""
        yield self

    def say(self, line: str) -> None:
        """Ignored."""

    def event(self, **fields: object) -> None:
        """Ignored."""
