"""`synthetic`: rendered videos on which the point of the paper can be seen without a download.

Task *which_moves*: two discs of equal shape and size, one reddish, one bluish, move in two different ones of four
directions over a textured background; the class is the direction of the reddish disc. One frame does not show a
direction; flow shows two directions and not which belongs to red; so late fusion can't know either (about one half).
Only features tied at the same pixel can.

Both discs draw brightness, speed and inner texture from the same distributions, so that grey pictures, and with them
the flow, hold nothing of the colour.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmn.datasets.base import Dataset, Splits, VideoEntry
from stmn.errors import UsageError, near_match
from stmn.video.write import write_video

Array = NDArray[np.float64]

#: class name -> (x, y) unit vector in image coordinates
DIRECTIONS = {"down": (0, 1), "left": (-1, 0), "right": (1, 0), "up": (0, -1)}
PARTS = ("train", "test")


class Synthetic(Dataset):
    """`train` and `test` videos of `frames` frames, `size` x `size` pixels, of a `task`.

    A video is a function of (seed, part, number) alone, so the two parts share no video. A mirrored clip shows another
    class, and a crop may lose a disc: neither keeps the label.
    """

    keeps = frozenset()
    makes_videos = True

    def __init__(
        self, root: Path, train: int = 2000, test: int = 500, frames: int = 14, size: int = 64,
        task: str = "which_moves", seed: int = 0,
    ) -> None:  # fmt: skip
        if task not in TASKS:
            raise UsageError(f"synthetic: unknown task '{task}'{near_match(task, TASKS)}; known: {', '.join(TASKS)}")
        self.task = task
        self.counts = {"train": int(train), "test": int(test)}
        self.frames, self.size, self.seed = int(frames), int(size), int(seed)
        if self.size % 2 or self.size < 32 or self.frames < 2:
            raise UsageError("synthetic: size must be even and at least 32, frames at least 2")
        root.mkdir(parents=True, exist_ok=True)
        super().__init__(root)

    def videos(self) -> list[VideoEntry]:
        """The train videos, then the test videos; classes take turns."""
        classes = sorted(DIRECTIONS)
        entries = []
        for part in PARTS:
            for number in range(self.counts[part]):
                name = f"{part}/{self.task}_{number:05d}.mp4"
                entries.append(VideoEntry(name, self.root / name, classes[number % 4], f"{part}{number:05d}"))
        return entries

    def splits(self) -> Splits:
        """One split, "1"."""
        ids = [video.id for video in self.videos()]
        return {"1": {part: [i for i in ids if i.startswith(f"{part}/")] for part in PARTS}}

    def fetch(self, video: VideoEntry) -> Path:
        """Render the video's file if it is not there yet."""
        if not video.path.exists():
            part, _, name = video.id.partition("/")
            number = int(Path(name).stem.rpartition("_")[2])
            rng = np.random.default_rng([self.seed, PARTS.index(part), number])
            write_video(video.path, TASKS[self.task](rng, video.class_name, self.frames, self.size))
        return video.path


def which_moves(rng: Generator, class_name: str, frames: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Render the frames, (size, size, 3) RGB uint8; `class_name` is the direction of the reddish disc."""
    other = rng.choice([name for name in DIRECTIONS if name != class_name])
    radius = rng.uniform(0.09, 0.13) * size
    tracks = two_tracks(rng, (class_name, str(other)), radius, frames, size)
    background = texture(rng, size, size / 4)[..., None] * rng.uniform(15, 45) + rng.uniform(60, 190)
    background = background + texture(rng, size, size / 2)[..., None] * rng.uniform(-12, 12, 3)
    surfaces = [texture(rng, 2 * size, size / 8) * rng.uniform(8, 16) for _ in tracks]
    colours = [disc_colour(rng, reddish) for reddish in (True, False)]
    noise = rng.uniform(0, 4)
    rows, columns = np.mgrid[:size, :size].astype(float)
    for t in range(frames):
        picture = background.copy()
        for track, surface, colour in zip(tracks, surfaces, colours, strict=True):
            x, y = track[t]
            cover = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]
            shade = shifted(surface, x, y, size)[..., None]
            picture = picture * (1 - cover) + (colour + shade) * cover
        picture = picture + rng.normal(0, 1, picture.shape) * noise
        yield np.clip(np.round(picture), 0, 255).astype(np.uint8)


def two_tracks(rng: Generator, directions: tuple[str, str], radius: float, frames: int, size: int) -> list[Array]:
    """Two (frames, 2) tracks of centres that stay inside the picture and never touch each other."""
    steps = np.arange(frames)[:, None]
    longest = (size - 2 * radius - 2) / max(frames - 1, 1)  # a disc that crosses the whole picture
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


def texture(rng: Generator, size: int, grain: float) -> Array:
    """Smooth noise, (size, size), mean 0 and deviation about 1, with features of about `grain` pixels and finer."""
    total = np.zeros((size, size))
    for octave in range(3):
        cells = max(2, round(size / grain * 2**octave)) + 1
        coarse = rng.normal(0, 1, (cells, cells))
        at = np.linspace(0, cells - 1.001, size)
        low, part = at.astype(int), at % 1
        rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
        total += (rows[:, low] * (1 - part) + rows[:, low + 1] * part) / 2**octave
    return total / max(float(total.std()), 1e-6)


def shifted(surface: Array, x: float, y: float, size: int) -> Array:
    """The `size` x `size` window of a larger texture that travels with a disc at (x, y), sub-pixel exact."""
    left, top = size - x, size - y
    column, row = int(left), int(top)
    part_x, part_y = left - column, top - row
    window = surface[row : row + size + 1, column : column + size + 1]
    rows = window[:-1] * (1 - part_y) + window[1:] * part_y
    return rows[:, :-1] * (1 - part_x) + rows[:, 1:] * part_x


def disc_colour(rng: Generator, reddish: bool) -> Array:
    """An RGB colour whose luma says nothing of its hue (BT.601: Y, Cb, Cr)."""
    luma = rng.uniform(80, 145)  # far enough from 0 and 255 that no channel clips and betrays the hue
    strong, weak = rng.uniform(40, 60), rng.uniform(-15, 5)
    cb, cr = (weak, strong) if reddish else (strong, weak)
    return np.array([luma + 1.402 * cr, luma - 0.344 * cb - 0.714 * cr, luma + 1.772 * cb])


TASKS = {"which_moves": which_moves}
