"""Notes on a video: the messages about it while it is classified."""

from contextlib import AbstractContextManager

from stmn.runtime.progress import Progress, Silent, Task


class NoteTaker:
    """A `Progress` that passes everything on, and keeps the messages about one video.

    Args:
        progress: Where everything is passed on to; None: nowhere.
        name: The video's name, which is removed from the notes.

    Attributes:
        taken: The notes, without the video's name.
    """

    def __init__(self, progress: Progress | None = None, name: str = "") -> None:
        self._progress, self._name = progress or Silent(), name
        self.taken: list[str] = []

    def take(self) -> list[str]:
        """Return the notes since the last call."""
        found, self.taken = self.taken, []
        return found

    def say(self, line: str) -> None:
        """Show a line, and keep it."""
        self.taken.append(line.removeprefix(f"{self._name}: "))
        self._progress.say(line)

    def task(self, description: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Task]:
        """Open a task."""
        return self._progress.task(description, total, unit, done)

    def event(self, **fields: object) -> None:
        """Report something to a program that reads the events."""
        self._progress.event(**fields)
