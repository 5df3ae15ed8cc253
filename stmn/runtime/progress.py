"""How stages report their progress, without knowing about terminals.

A stage opens a task and advances it. The command line draws it with rich; a test or a script ignores it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """A piece of work in progress."""

    def advance(self, count: int = 1, **fields: object) -> None:
        """Report `count` more units as done; `fields` (loss=0.3, failed=1) replace those shown beside the bar."""


class Progress(Protocol):
    """The receiver of a stage's reports."""

    def task(self, description: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Task]:
        """Open a task.

        Args:
            description: what is being done: "training".
            total: units of work, or None if unknown.
            unit: what is counted: "steps".
            done: units that are done already, as in a resumed run.
        """

    def say(self, line: str) -> None:
        """Show a person one line: a notice or a result."""

    def event(self, **fields: object) -> None:
        """Report an event to a listening program, such as the end of a video; fields are JSON values."""


class Silent:
    """A `Progress`, and a `Task`, that shows nothing; the default for Python callers."""

    def advance(self, count: int = 1, **fields: object) -> None:
        """Do nothing."""

    @contextmanager
    def task(self, description: str, total: int | None, unit: str, done: int = 0) -> Iterator[Task]:
        """Open a task that shows nothing."""
        yield self

    def say(self, line: str) -> None:
        """Do nothing."""

    def event(self, **fields: object) -> None:
        """Do nothing."""
