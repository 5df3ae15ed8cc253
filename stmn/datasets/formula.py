"""`formula`: pictures and motions drawn by formulas, to train starting weights without a download."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.rendered import Rendered
from stmn.datasets.rendering import kinds_of_motion
from stmn.datasets.rendering.patterns import draw_picture, make_pattern
from stmn.errors import UsageError


class Formula(Rendered):
    """Rendered videos for pretraining.

    Task `appearance`: a class is a fractal or a texture, and every frame of a video is another instance of it. Task
    `motion`: a class is what moves (an object or the whole scene) and how (44 classes).

    Args:
        root: Where the videos are written; created if it doesn't exist.
        train: Number of training videos.
        test: Number of test videos.
        frames: Frames per video, at least 2.
        size: Width and height in pixels, even and at least 32.
        task: "appearance" or "motion".
        classes: Number of classes of `appearance`, 2 to 10,000; every sixth is a texture.
        seed: Seed of everything random, including the patterns.

    Raises:
        UsageError: There is no such task, or a number is out of its range.
    """

    name = "formula"
    tasks = ("appearance", "motion")

    def __init__(
        self, root: Path, train: int = 6000, test: int = 600, frames: int = 14, size: int = 72,
        task: str = "appearance", classes: int | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.check_task(task)
        if task == "motion" and classes is not None:
            raise UsageError("formula: classes belongs to task = appearance; the kinds of motion are given")
        count = 192 if classes is None else int(classes)
        if not 2 <= count <= 10_000:
            raise UsageError("formula: classes must be 2 to 10,000")
        names = kinds_of_motion.CLASSES if task == "motion" else [f"pattern{i:04d}" for i in range(count)]
        # mirroring turns right into left; a mirrored pattern keeps its class
        self.keeps = frozenset({"crop"} if task == "motion" else {"crop", "mirror"})
        super().__init__(root, task, names, train, test, frames, size, seed)

    def _draw(self, rng: Generator, class_name: str) -> Iterator[NDArray[np.uint8]]:
        if self._task == "motion":
            return kinds_of_motion.render(rng, class_name, self._frames, self._size, self._seed)
        pattern = make_pattern(self._seed, int(class_name.removeprefix("pattern")))
        pictures = (draw_picture(rng, pattern, self._size) for _ in range(self._frames))
        return (np.round(picture).astype(np.uint8) for picture in pictures)
