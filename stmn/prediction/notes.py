"""Notes on a video: what is said of it while it is classified."""

from contextlib import AbstractContextManager

from stmn.runtime.progress import Progress, Silent, Task


class NoteTaker:
    """A `Progress` that hands everything on, and keeps what is said of one video.

    Args:
        progress: Where it goes; by default nowhere else.
        name: The video's name; notes are kept without it.

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
        """Report something to a program that follows."""
        self._progress.event(**fields)
