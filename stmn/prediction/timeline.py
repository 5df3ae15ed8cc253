"""A table of what is said of a video along time: CSV, a row a window."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from stmn.prediction.model import Prediction
from stmn.prediction.windows import Window
from stmn.runtime.files import atomic_write


class Timeline:
    """Takes windows of one video after the other; what is said of one that fails can be taken back."""

    def __init__(self, file: TextIO, classes: Sequence[str]) -> None:
        self.file, self.classes = file, classes
        self.rows = csv.writer(file)
        self.rows.writerow(["start_s", "end_s", "class", "score", "video", *(f"score_{name}" for name in classes)])
        self.sure = self.here()

    def add(self, video: str, window: Window, ranked: Sequence[Prediction]) -> None:
        """A row: start and end in seconds, the best class and its score, the video, the score of each class."""
        scores = {prediction.class_name: f"{prediction.score:.6f}" for prediction in ranked}
        best = ranked[0].class_name
        times = (f"{seconds:.3f}" for seconds in (window.start, window.end))
        self.rows.writerow([*times, best, scores[best], video, *(scores[name] for name in self.classes)])

    def keep(self) -> None:
        """What was added stays, whatever comes."""
        self.sure = self.here()

    def drop(self) -> None:
        """Take back what was added since."""
        self.file.seek(self.sure)
        self.file.truncate()

    def here(self) -> int:
        """Where the file ends now."""
        self.file.flush()
        return self.file.tell()


@contextmanager
def writing_timeline(path: Path, classes: Sequence[str]) -> Iterator[Timeline]:
    """A timeline that appears under its name when the block ends well."""
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        yield Timeline(file, classes)
