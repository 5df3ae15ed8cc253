"""`synthetic`: rendered videos that show the point of the paper without a download.

Task *which_moves*: two discs of equal shape and size, one reddish and one bluish, move in two different directions of
four over a textured background. The class is the direction of the reddish disc. A single frame shows no direction; flow
shows two directions but not which one is red's. So late fusion of the two can't know either and gets about half of the
videos right. Only features that are combined at the same pixel can tell.

Both discs draw brightness, speed and texture from the same distributions, so that grey frames, and so the flow, hold
nothing of the hue.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.base import Dataset, Splits, VideoEntry
from stmn.errors import UsageError, near_match
from stmn.video.write import write_video

Array = NDArray[np.float64]

#: class -> (x, y) unit vector in image coordinates
DIRECTIONS = {"down": (0, 1), "left": (-1, 0), "right": (1, 0), "up": (0, -1)}
_PARTS = ("train", "test")


class Synthetic(Dataset):
    """Rendered videos. Each is a function of (seed, part, number) alone, so the two parts share none.

    A mirrored clip shows another class and a crop may lose a disc, so neither keeps the class.

    Args:
        root: Where the videos are written; created if it doesn't exist.
        train: Number of training videos.
        test: Number of test videos.
        frames: Frames per video, at least 2.
        size: Width and height in pixels, even and at least 32.
        task: "which_moves".
        seed: Of all that is random.

    Raises:
        UsageError: There is no such task, or `size` or `frames` is out of its range.
    """

    keeps = frozenset()
    makes_videos = True

    def __init__(
        self, root: Path, train: int = 2000, test: int = 500, frames: int = 14, size: int = 64,
        task: str = "which_moves", seed: int = 0,
    ) -> None:  # fmt: skip
        if task not in _TASKS:
            raise UsageError(f"synthetic: unknown task '{task}'{near_match(task, _TASKS)}; known: {', '.join(_TASKS)}")
        self._task = task
        self._counts = {"train": int(train), "test": int(test)}
        self._frames, self._size, self._seed = int(frames), int(size), int(seed)
        if self._size % 2 or not 32 <= self._size <= 4096 or not 2 <= self._frames <= 100_000:
            raise UsageError("synthetic: size must be even, 32 to 4096, and frames 2 to 100,000")
        if min(self._counts.values()) < 0 or max(self._counts.values()) > 1_000_000:
            raise UsageError("synthetic: train and test must be 0 to 1,000,000 videos")
        root.mkdir(parents=True, exist_ok=True)
        super().__init__(root)

    def videos(self) -> list[VideoEntry]:
        """List the training videos, then the test videos; classes alternate."""
        classes = sorted(DIRECTIONS)
        entries = []
        for part in _PARTS:
            for number in range(self._counts[part]):
                name = f"{part}/{self._task}_{number:05d}.mp4"
                entries.append(VideoEntry(name, self.root / name, classes[number % 4], f"{part}{number:05d}"))
        return entries

    def splits(self) -> Splits:
        """Return the one split, "1"."""
        ids = [video.id for video in self.videos()]
        return {"1": {part: [i for i in ids if i.startswith(f"{part}/")] for part in _PARTS}}

    def fetch(self, video: VideoEntry) -> Path:
        """Return the video's file; render it if it doesn't exist."""
        if not video.path.exists():
            rng, class_name = self._start(video.id)
            write_video(video.path, _TASKS[self._task](rng, class_name, self._frames, self._size))
        return video.path

    def masks(self, video_id: str, times: Sequence[int]) -> dict[str, NDArray[np.bool_]]:
        """Return where the reddish disc ("target") and the bluish one ("distractor") are."""
        rng, class_name = self._start(video_id)
        radius, tracks = _draw_motion(rng, class_name, self._frames, self._size)
        rows, columns = np.mgrid[: self._size, : self._size]
        return {
            name: np.array([np.hypot(columns - x, rows - y) <= radius for x, y in track[list(times)]])
            for name, track in zip(("target", "distractor"), tracks, strict=True)
        }

    def _start(self, video_id: str) -> tuple[Generator, str]:
        """What a video is drawn with, and its class."""
        part, _, name = video_id.partition("/")
        number = int(Path(name).stem.rpartition("_")[2])
        return np.random.default_rng([self._seed, _PARTS.index(part), number]), sorted(DIRECTIONS)[number % 4]


def _render_which_moves(rng: Generator, class_name: str, frames: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """The frames, (size, size, 3) RGB uint8; `class_name` is the direction of the reddish disc."""
    radius, tracks = _draw_motion(rng, class_name, frames, size)
    background = _draw_texture(rng, size, size / 4)[..., None] * rng.uniform(15, 45) + rng.uniform(60, 190)
    background = background + _draw_texture(rng, size, size / 2)[..., None] * rng.uniform(-12, 12, 3)
    surfaces = [_draw_texture(rng, 2 * size, size / 8) * rng.uniform(8, 16) for _ in tracks]
    colours = [_draw_colour(rng, reddish) for reddish in (True, False)]
    noise = rng.uniform(0, 4)
    rows, columns = np.mgrid[:size, :size].astype(float)
    for t in range(frames):
        picture = background.copy()
        for track, surface, colour in zip(tracks, surfaces, colours, strict=True):
            x, y = track[t]
            cover = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]
            shade = _shift(surface, x, y, size)[..., None]
            picture = picture * (1 - cover) + (colour + shade) * cover
        picture = picture + rng.normal(0, 1, picture.shape) * noise
        yield np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _draw_motion(rng: Generator, class_name: str, frames: int, size: int) -> tuple[float, list[Array]]:
    """The radius of both discs, and the (frames, 2) tracks of the reddish and of the bluish one, in pixels."""
    other = rng.choice([name for name in DIRECTIONS if name != class_name])
    radius = rng.uniform(0.09, 0.13) * size
    return radius, _draw_tracks(rng, (class_name, str(other)), radius, frames, size)


def _draw_tracks(rng: Generator, directions: tuple[str, str], radius: float, frames: int, size: int) -> list[Array]:
    """Two (frames, 2) tracks of disc centres; the discs stay inside the frame and never touch each other."""
    steps = np.arange(frames)[:, None]
    longest = (size - 2 * radius - 2) / max(frames - 1, 1)  # of a disc that crosses the whole frame
    while True:
        tracks = []
        for name in directions:
            speed = rng.uniform(0.5, 0.85) * min(longest, size / 28)
            travel = np.array(DIRECTIONS[name], float) * speed
            low = radius + 1 + np.maximum(-travel * (frames - 1), 0)
            high = size - radius - 2 - np.maximum(travel * (frames - 1), 0)
            tracks.append(rng.uniform(low, high) + steps * travel)
        if np.hypot(*(tracks[0] - tracks[1]).T).min() > 2 * radius + 2:
            return tracks


def _draw_texture(rng: Generator, size: int, grain: float) -> Array:
    """Smooth noise (size, size) of mean 0 and deviation about 1, with features of about `grain` pixels and smaller."""
    total = np.zeros((size, size))
    for octave in range(3):
        cells = max(2, round(size / grain * 2**octave)) + 1
        coarse = rng.normal(0, 1, (cells, cells))
        at = np.linspace(0, cells - 1.001, size)
        low, part = at.astype(int), at % 1
        rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
        total += (rows[:, low] * (1 - part) + rows[:, low + 1] * part) / 2**octave
    return total / max(float(total.std()), 1e-6)


def _shift(surface: Array, x: float, y: float, size: int) -> Array:
    """The (size, size) window of a larger texture that moves with a disc at (x, y), exact to fractions of a pixel."""
    left, top = size - x, size - y
    column, row = int(left), int(top)
    part_x, part_y = left - column, top - row
    window = surface[row : row + size + 1, column : column + size + 1]
    rows = window[:-1] * (1 - part_y) + window[1:] * part_y
    return rows[:, :-1] * (1 - part_x) + rows[:, 1:] * part_x


def _draw_colour(rng: Generator, reddish: bool) -> Array:
    """A random RGB colour whose luma says nothing about its hue (BT.601: Y, Cb, Cr)."""
    luma = rng.uniform(80, 145)  # far enough from 0 and 255 that no channel clips, which would betray the hue
    strong, weak = rng.uniform(40, 60), rng.uniform(-15, 5)
    cb, cr = (weak, strong) if reddish else (strong, weak)
    return np.array([luma + 1.402 * cr, luma - 0.344 * cb - 0.714 * cr, luma + 1.772 * cb])


_TASKS = {"which_moves": _render_which_moves}
