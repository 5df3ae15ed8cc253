"""`synthetic`: rendered videos that demonstrate the points of the paper without a download.

Each task has a module in `stmn.datasets.rendering`, which says how much each input reveals of the class.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.rendered import Rendered
from stmn.datasets.rendering import distractors, what_comes_first, which_moves
from stmn.datasets.rendering.canvas import Mask
from stmn.datasets.rendering.which_moves import DIRECTIONS
from stmn.errors import UsageError

__all__ = ["DIRECTIONS", "Synthetic"]


@dataclass(frozen=True)
class _Task:
    """The functions that draw a task, of (rng, class, frames, size); `masks` also takes times."""

    classes: Sequence[str]
    render: Callable[[Generator, str, int, int], Iterator[NDArray[np.uint8]]]
    masks: Callable[[Generator, str, int, int, Sequence[int]], dict[str, Mask]]
    least_frames: int = 2


_TASKS = {
    "which_moves": _Task(which_moves.CLASSES, which_moves.render, which_moves.masks),
    "what_comes_first": _Task(
        what_comes_first.CLASSES, what_comes_first.render, what_comes_first.masks, what_comes_first.LEAST_FRAMES
    ),
    "distractors": _Task(distractors.CLASSES, distractors.render, distractors.masks),
}


class Synthetic(Rendered):
    """Rendered videos. Each is a function of only (seed, part, number), so the two parts share none.

    A mirrored clip shows another class, and a crop may lose a disc, so neither keeps the class.

    Args:
        root: Where the videos are written; created if it doesn't exist.
        train: Number of training videos.
        test: Number of test videos.
        frames: Frames per video, at least 2; 14 by default. `what_comes_first` needs 46, which is its default.
        size: Width and height in pixels, even and at least 32.
        task: "which_moves", "what_comes_first" or "distractors".
        seed: Seed of everything random.

    Raises:
        UsageError: There is no such task, or `size` or `frames` is out of its range.
    """

    keeps = frozenset()
    name = "synthetic"
    tasks = tuple(_TASKS)

    def __init__(
        self, root: Path, train: int = 2000, test: int = 500, frames: int | None = None, size: int = 64,
        task: str = "which_moves", seed: int = 0,
    ) -> None:  # fmt: skip
        self.check_task(task)
        chosen = _TASKS[task]
        if frames is None:
            frames = max(14, chosen.least_frames)
        elif int(frames) < chosen.least_frames > 2:
            raise UsageError(f"synthetic: {task} needs frames to be {chosen.least_frames} or more")
        super().__init__(root, task, chosen.classes, train, test, frames, size, seed)

    def _draw(self, rng: Generator, class_name: str) -> Iterator[NDArray[np.uint8]]:
        return _TASKS[self._task].render(rng, class_name, self._frames, self._size)

    def masks(self, video_id: str, times: Sequence[int]) -> dict[str, Mask]:
        """Return where the object that decides the class ("target") and the others ("distractor") are."""
        rng, class_name = self._start(video_id)
        return _TASKS[self._task].masks(rng, class_name, self._frames, self._size, times)
