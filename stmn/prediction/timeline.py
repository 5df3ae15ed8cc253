"""The predictions for a video over time as a CSV table, one row per window."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from stmn.prediction.classifier import ClassScore
from stmn.prediction.windows import Window
from stmn.runtime.files import atomic_write


class Timeline:
    """A CSV table of the windows of one video after another; the rows of a video that fails can be taken back.

    Args:
        file: An empty text file, open for writing.
        classes: The class names, in the order of their columns.
    """

    def __init__(self, file: TextIO, classes: Sequence[str]) -> None:
        self._file, self._classes = file, classes
        self._rows = csv.writer(file)
        self._rows.writerow(["start_s", "end_s", "class", "score", "video", *(f"score_{name}" for name in classes)])
        self._committed = self._position()

    def add(self, video: str, window: Window, ranked: Sequence[ClassScore]) -> None:
        """Write a row: start and end in seconds, the best class and its score, the video, each class's score."""
        scores = {found.class_name: f"{found.score:.6f}" for found in ranked}
        best = ranked[0].class_name
        times = (f"{seconds:.3f}" for seconds in (window.start, window.end))
        self._rows.writerow([*times, best, scores[best], video, *(scores[name] for name in self._classes)])

    def commit(self) -> None:
        """Keep the rows written so far."""
        self._committed = self._position()

    def roll_back(self) -> None:
        """Remove the rows written since the last `commit`."""
        self._file.seek(self._committed)
        self._file.truncate()

    def _position(self) -> int:
        """Where the file ends now."""
        self._file.flush()
        return self._file.tell()


@contextmanager
def write_timeline(path: Path, classes: Sequence[str]) -> Iterator[Timeline]:
    """Open a timeline that appears at `path` if the block ends without an error.

    Raises:
        StmnError: The file can't be written.
    """
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        yield Timeline(file, classes)
