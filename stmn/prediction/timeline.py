"""Predictions for a video over time as a CSV table, one row per window."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from stmn.prediction.classifier import ClassScore
from stmn.prediction.rows import RowFile
from stmn.prediction.table import UNKNOWN
from stmn.prediction.windows import Window
from stmn.runtime.csv_cells import safe_cell
from stmn.runtime.files import atomic_write


class Timeline(RowFile):
    """A CSV table of the windows of one video after another; the rows of a video that fails can be removed.

    Args:
        file: An empty text file, open for writing.
        classes: The class names, in the order of their columns.
    """

    def __init__(self, file: TextIO, classes: Sequence[str]) -> None:
        super().__init__(file)
        self._classes = classes
        self._rows = csv.writer(file)
        self._rows.writerow(["start_s", "end_s", "class", "score", "video", *(f"score_{name}" for name in classes)])
        self.commit()

    def add(self, video: str, window: Window, ranked: Sequence[ClassScore], unknown: bool = False) -> None:
        """Write a row: start and end in seconds, the best class and its score, the video, each class's score.

        If `unknown`, the best class is `UNKNOWN`, without a score.
        """
        scores = {found.class_name: f"{found.score:.6f}" for found in ranked}
        best = ranked[0].class_name
        times = (f"{seconds:.3f}" for seconds in (window.start, window.end))
        names = (UNKNOWN, "") if unknown else (safe_cell(best), scores[best])
        self._rows.writerow([*times, *names, safe_cell(video), *(scores[name] for name in self._classes)])


@contextmanager
def write_timeline(path: Path, classes: Sequence[str]) -> Iterator[Timeline]:
    """Open a timeline, which appears at `path` if the block ends without an error.

    Raises:
        StmnError: The file can't be written.
    """
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        yield Timeline(file, classes)
