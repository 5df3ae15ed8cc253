"""The contract of data sets, and functions that several of them share.

A data set lists videos with id, path, class and group, and says which video belongs to which part of which split.
Classes are identified by their names, never by numbers.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.video.pictures import list_pictures
from stmn.video.source import VIDEO_SUFFIXES

#: split name -> part ("train", "test", perhaps "validation") -> video ids
Splits = dict[str, dict[str, list[str]]]

#: name of a part in folders and lists, in lower case -> its name here
PARTS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validate": "validation",
    "validation": "validation", "dev": "validation", "test": "test", "testing": "test", "holdout": "test",
}  # fmt: skip


@dataclass(frozen=True)
class VideoEntry:
    """A video of a data set. Its `id` is unique; videos of one `group` are never on both sides of a split.

    A video may be a segment of a longer one, from `start` up to but not including `end`, in seconds; None: to the end.
    """

    id: str
    path: Path
    class_name: str
    group: str = ""
    start: float = 0.0
    end: float | None = None

    @property
    def segment(self) -> str:
        """The segment, `2.5-7` or `2.5-`; "" for a whole video."""
        if not self.start and self.end is None:
            return ""
        return f"{self.start:.6g}-" + (f"{self.end:.6g}" if self.end is not None else "")


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that seems to belong to a data set but is not one of its videos, with the reason."""

    path: Path
    reason: str


@dataclass(frozen=True)
class JpegFiles:
    """Extracted frames and flow of one video, as JPEG files in order of time.

    `u[i]` and `v[i]` (8-bit grey) are the motion from `frames[i]` to `frames[i + 1]`, so each has one item fewer than
    `frames`.
    """

    frames: Sequence[Path]
    u: Sequence[Path]
    v: Sequence[Path]


Pictures = JpegFiles  # plugins may import it under this name


class Dataset:
    """Base class of data sets. A plugin is a subclass; its `__init__` takes a root folder and its own options.

    Attributes:
        keeps: The augmentations that don't change a clip's class: "mirror" (left-right), "crop" (a part of the frame).
            Training uses no others.
        makes_videos: True if the data set needs no folder of videos because `fetch` makes them under the root.
        renames: Options that affect only groups and splits. A prepared set accepts new values when prepared again.
        has_pictures: True if frames and flow are ready, so that `pictures` is called instead of `fetch`.
    """

    keeps: frozenset[str] = frozenset({"mirror", "crop"})
    renames: frozenset[str] = frozenset()
    makes_videos: bool = False
    has_pictures: bool = False

    def __init__(self, root: Path) -> None:
        self.root = root
        if root.is_file():
            raise DataError(
                f"{root}: is a file; name the folder that holds the folders of classes, or a list of videos"
            )
        if not root.is_dir():
            raise DataError(f"{root}: no such folder of videos")

    def videos(self) -> Iterable[VideoEntry]:
        """List all videos, always in the same order."""
        raise NotImplementedError

    def splits(self) -> Splits:
        """Return the splits by name."""
        raise NotImplementedError

    def fetch(self, video: VideoEntry) -> Path:
        """Return the video's file; make or download it first if necessary. Called in worker processes."""
        return video.path

    def notes(self, videos: Sequence[VideoEntry]) -> Iterable[str]:
        """Return lines on how the list was understood, for a person to check: what a group is, what a class is.

        Args:
            videos: The result of `videos`.
        """
        return ()

    def split_notes(self, replaced: bool = False) -> Iterable[str]:
        """Return lines on how the data set's own splits were understood.

        Args:
            replaced: Folds are used instead of them.
        """
        return ()

    def left_out(self) -> Sequence[LeftOut]:
        """Return files and folders that are not videos of the set. `prepare` counts them."""
        return ()

    def lacks(self, video: VideoEntry) -> str:
        """Return why a video is unavailable, if that is known at once, for example because it has no file; else "".

        Lists may name thousands of videos that no longer exist. `prepare` records them all together.
        """
        return ""

    def sources(self, video: VideoEntry) -> list[Path]:
        """Return the files or folders whose sizes and modification times show whether the video has changed."""
        return [video.path]

    def pictures(self, video: VideoEntry) -> JpegFiles:
        """Return the files of a video's frames and flow; for data sets with `has_pictures`.

        Raises:
            DataError: They are not complete.
        """
        raise NotImplementedError

    def short_side(self) -> int:
        """Return the short side of the frames in pixels; for data sets with `has_pictures`."""
        raise NotImplementedError

    def masks(self, video_id: str, times: Sequence[int]) -> dict[str, NDArray[np.bool_]]:
        """Return masks of named objects in a video, if the data set has them. No file is read.

        Args:
            video_id: The video's id, as listed by `videos`.
            times: Frame numbers of the video, from 0.

        Returns:
            Name -> (len(times), height, width), true where the object covers the pixel. "target" is the object that
            decides the class, "distractor" one that could be mistaken for it. Empty if unavailable.
        """
        return {}


def missing_file(path: Path) -> str:
    """Return why a video without a file is unavailable; "" if the file, or a folder of pictures, exists."""
    return "" if path.is_file() or list_pictures(path) else f"{as_id(path)}: no such video file"


def without_suffix(name: str) -> str:
    """Return a file name or a path without a video's suffix; other suffixes stay."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


def as_id(path: str | Path) -> str:
    """Return a path as the id of a video: bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def first_folder(root: Path, *names: str) -> Path:
    """Return the first of the subfolders that exists, else `root` itself."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def split_of(parts: dict[str, list[str]]) -> dict[str, list[str]]:
    """Make a split from lists by part: it tests on the validation list if there is no test list."""
    train, validation, test = (parts.get(part, []) for part in ("train", "validation", "test"))
    if not test:
        return {"train": train, "test": validation}
    return {"train": train, "test": test} | ({"validation": validation} if validation else {})


def hashed_split(videos: Iterable[VideoEntry], test_share: float) -> Splits:
    """Make a split, "1", for a data set without splits.

    Test videos are chosen by a hash of their ids, so that adding a video rarely moves another one. Whole groups are
    chosen if videos have groups, otherwise videos of each class.

    Args:
        videos: All videos of the set.
        test_share: Fraction of the videos to test on, approximately.
    """
    videos = list(videos)
    grouped = any(video.group for video in videos)
    strata: dict[str, dict[str, list[str]]] = {}
    for video in videos:
        units = strata.setdefault("" if grouped else video.class_name, {})
        units.setdefault(video.group or video.id, []).append(video.id)
    train: list[str] = []
    test: list[str] = []
    for units in strata.values():
        wanted = round(sum(map(len, units.values())) * test_share)
        taken = 0
        for name in sorted(units, key=lambda name: hashlib.sha256(name.encode()).digest()):
            if taken + len(units[name]) / 2 <= wanted:
                test += units[name]
                taken += len(units[name])
            else:
                train += units[name]
    return {"1": {"train": sorted(train), "test": sorted(test)}}
