"""The progress that a trial shows, and how it learns of validations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stmn.errors import Interrupted
from stmn.runtime.progress import Progress, Task


class Stopped(Interrupted):
    """A trial was stopped early, because it did badly."""


class TrialProgress:
    """A `Progress` for one trial: bars that say which trial it is, and lines unless it is quiet.

    Attributes:
        validated: called with the step and the accuracy, 0..1, of each validation; an error ends the training.
    """

    def __init__(self, outer: Progress, name: str, quiet: bool) -> None:
        self._outer, self._name, self._quiet = outer, name, quiet
        self.validated: Callable[[int, float], None] = lambda step, accuracy: None

    @contextmanager
    def task(self, description: str, total: int | None, unit: str, done: int = 0) -> Iterator[Task]:
        """Open a task."""
        with self._outer.task(f"{self._name}, {description}", total, unit, done) as task:
            yield _WatchedTask(task, done, self.validated)

    def say(self, line: str) -> None:
        """Show a line."""
        if not self._quiet:
            self._outer.say(line)

    def event(self, **fields: object) -> None:
        """Report something to a program that reads the events."""
        self._outer.event(**fields)


class _WatchedTask:
    """A task that watches for validation errors. The error of a step is shown just before the bar reaches that step."""

    def __init__(self, task: Task, done: int, validated: Callable[[int, float], None]) -> None:
        self._task, self._done, self._validated = task, done, validated

    def advance(self, count: int = 1, **fields: object) -> None:
        """Report units done."""
        self._task.advance(count, **fields)
        self._done += count
        if isinstance(error := fields.get("validation_error"), float):
            self._validated(self._done + 1, 1 - error)
