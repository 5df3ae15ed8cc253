"""Clips that the user drops on the page: classified over time, with an overlay."""

import re
import tempfile
from itertools import count
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from stmn.errors import DataError
from stmn.prediction.api import Model, parse_source
from stmn.prediction.follow import RunningMean, follow_windows
from stmn.prediction.notes import NoteTaker
from stmn.prediction.options import PredictOptions

#: seconds of a window and of a step; short, because clips from a camera are
_WINDOW, _STEP = 1.0, 0.25
#: classes of a window that are shown
_TOP = 5


class Clips:
    """Classifies one clip after another. Use it as a context manager: its files are deleted at the end.

    Args:
        model: the model.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._lock = Lock()
        self._numbers = count(1)

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="stmn-browse-")
        self.place = Path(self._folder.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def new_file(self) -> Path:
        """The path for the next clip. It doesn't wait for clips that are being classified."""
        return self.place / f"clip{next(self._numbers)}"

    def find_overlay(self, name: str) -> Path | None:
        """The overlay with a name that `classify` returned; None for any other name."""
        path = self.place / f"{name}.mp4"
        return path if re.fullmatch(r"clip\d+", name) and path.is_file() else None

    def classify(self, clip: Path) -> dict[str, Any]:
        """Classify a clip over time.

        Args:
            clip: a file at a path from `new_file`; it is deleted.

        Returns:
            JSON: `windows` with `start`, `end` (seconds) and `classes` (name, probability; best first), the classes of
            the whole clip, the name of the overlay, and notes.

        Raises:
            DataError: it is not a video, or too short.
        """
        notes = NoteTaker(name=str(clip))
        options = PredictOptions(window=_WINDOW, step=_STEP, overlay=clip.with_suffix(".mp4"))
        with self._lock:  # one at a time: each takes all cores
            try:
                windows = list(follow_windows(self.model, parse_source(str(clip)), options, notes, endless=False))
            except DataError as error:
                raise DataError(str(error).replace(f"{clip}: ", "").replace(str(clip), "the clip")) from error
            finally:
                clip.unlink(missing_ok=True)
        mean = RunningMean()
        for window in windows:
            mean.add(window)
        return {
            "overlay": clip.name,
            "classes": self._rank(mean.outputs.mean(dim=0)),
            "windows": [
                {"start": window.start, "end": window.end, "classes": self._rank(window.logits)} for window in windows
            ],
            "notes": notes.taken,
        }

    def _rank(self, logits: Tensor) -> list[tuple[str, float]]:
        """The best classes and their probabilities."""
        return [(one.class_name, one.score) for one in self.model.rank(logits)[:_TOP]]
