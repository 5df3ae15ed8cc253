"""The base class of data sets that render their own videos."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.base import Dataset, Splits, VideoEntry
from stmn.errors import UsageError, near_match
from stmn.video.write import write_video

#: the parts of the only split; a video's random numbers depend on the position of its part here
PARTS = ("train", "test")


class Rendered(Dataset):
    """Videos that `fetch` renders. Each is a function of only (seed, part, number), so the two parts share none.

    Args:
        root: Where the videos are written; created if it doesn't exist.
        task: What they show; one of `tasks`.
        classes: The names of the K classes; video number n shows class n mod K.
        train: Number of training videos.
        test: Number of test videos.
        frames: Frames per video, at least 2.
        size: Width and height in pixels, even and at least 32.
        seed: Seed of everything random.

    Attributes:
        name: Name of the data set in messages.
        tasks: The known tasks.

    Raises:
        UsageError: There is no such task, or a number is out of its range.
    """

    makes_videos = True
    name = "rendered"
    tasks: Sequence[str] = ()

    def __init__(
        self, root: Path, task: str, classes: Sequence[str], train: int, test: int, frames: int, size: int, seed: int
    ) -> None:
        self._task, self._classes = task, list(classes)
        self._counts = {"train": int(train), "test": int(test)}
        self._frames, self._size, self._seed = int(frames), int(size), int(seed)
        if self._size % 2 or not 32 <= self._size <= 4096 or not 2 <= self._frames <= 100_000:
            raise UsageError(f"{self.name}: size must be even, 32 to 4096, and frames 2 to 100,000")
        if min(self._counts.values()) < 0 or max(self._counts.values()) > 1_000_000:
            raise UsageError(f"{self.name}: train and test must be 0 to 1,000,000 videos")
        root.mkdir(parents=True, exist_ok=True)
        super().__init__(root)

    @classmethod
    def check_task(cls, task: str) -> None:
        """Raise `UsageError` if there is no such task."""
        if task not in cls.tasks:
            raise UsageError(
                f"{cls.name}: unknown task '{task}'{near_match(task, cls.tasks)}; known: {', '.join(cls.tasks)}"
            )

    def videos(self) -> list[VideoEntry]:
        """List the training videos, then the test videos; classes alternate."""
        entries = []
        for part in PARTS:
            for number in range(self._counts[part]):
                name = f"{part}/{self._task}_{number:05d}.mp4"
                class_name = self._classes[number % len(self._classes)]
                entries.append(VideoEntry(name, self.root / name, class_name, f"{part}{number:05d}"))
        return entries

    def splits(self) -> Splits:
        """Return the only split, "1"."""
        ids = [video.id for video in self.videos()]
        return {"1": {part: [i for i in ids if i.startswith(f"{part}/")] for part in PARTS}}

    def fetch(self, video: VideoEntry) -> Path:
        """Return the video's file; render it if it doesn't exist."""
        if not video.path.exists():
            write_video(video.path, self.render(video))
        return video.path

    def render(self, video: VideoEntry) -> Iterator[NDArray[np.uint8]]:
        """Return the frames of a video, (size, size, 3) RGB uint8, before they are encoded."""
        return self._draw(*self._start(video.id))

    def _start(self, video_id: str) -> tuple[Generator, str]:
        """Return the random generator that draws a video, and its class."""
        part, _, name = video_id.partition("/")
        number = int(Path(name).stem.rpartition("_")[2])
        rng = np.random.default_rng([self._seed, PARTS.index(part), number])
        return rng, self._classes[number % len(self._classes)]

    def _draw(self, rng: Generator, class_name: str) -> Iterator[NDArray[np.uint8]]:
        """Draw the frames of a video of a class."""
        raise NotImplementedError
