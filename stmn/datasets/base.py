"""The contract of a data set.

A data set lists videos with id, path, class name and group, and says which video belongs to which part of which split.
Class names, never numbers, are the truth.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stmn.errors import DataError

VIDEO_SUFFIXES = frozenset({
    ".avi", ".mp4", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv", ".3gp", ".ts", ".ogv", ".gif",
    ".m2ts", ".vob", ".asf",
})  # fmt: skip

#: split name -> part ("train", "test") -> video ids
Splits = dict[str, dict[str, list[str]]]


@dataclass(frozen=True)
class VideoEntry:
    """One video: `id` is unique in the data set; videos of one `group` never stand on both sides of a split."""

    id: str
    path: Path
    class_name: str
    group: str = ""


@dataclass(frozen=True)
class JpegFiles:
    """Ready frames and flow of one video, as JPEG files in order.

    `u[i]` and `v[i]` (grey, 8 bit, x and y) lead from `frames[i]` to `frames[i + 1]`: one fewer than the frames.
    """

    frames: Sequence[Path]
    u: Sequence[Path]
    v: Sequence[Path]


Pictures = JpegFiles  # plugins may know it by this name


class Dataset:
    """Base of data sets: built with a root folder and options of its own.

    `keeps` names the augmentations that leave a clip's class as it is: "mirror" (left-right), "crop" (parts of the
    frame). The loader uses no others.
    """

    keeps: frozenset[str] = frozenset({"mirror", "crop"})
    #: True for a data set that needs no folder of videos: `fetch` makes them under the root it is given
    makes_videos: bool = False
    #: True for a data set of ready frames and flow: `pictures` is asked in place of `fetch`
    has_pictures: bool = False

    def __init__(self, root: Path) -> None:
        self.root = root
        if not root.is_dir():
            raise DataError(f"{root}: no such folder of videos")

    def videos(self) -> Iterable[VideoEntry]:
        """All videos, in a fixed order."""
        raise NotImplementedError

    def splits(self) -> Splits:
        """The splits by name."""
        raise NotImplementedError

    def fetch(self, video: VideoEntry) -> Path:
        """The video's file, made or brought first when it is not there yet. Called in worker processes."""
        return video.path

    def lacks(self, video: VideoEntry) -> str:
        """Why a video can't be had, where that shows at once: its file is not there, say. Empty when it can be tried.

        Lists of videos name thousands that nobody has any more; `prepare` records these together.
        """
        return ""

    def sources(self, video: VideoEntry) -> list[Path]:
        """The files or folders whose sizes and times of change tell whether the video is still the one prepared."""
        return [video.path]

    def pictures(self, video: VideoEntry) -> JpegFiles:
        """The ready pictures of a video, where `has_pictures`. Raises `DataError` when they are not complete."""
        raise NotImplementedError

    def short_side(self) -> int:
        """The short side of the ready pictures in pixels, where `has_pictures`."""
        raise NotImplementedError


def no_file(path: Path) -> str:
    """Words for a video file that is not there; empty when it is."""
    return "" if path.is_file() else f"{as_id(path)}: no such video file"


def without_suffix(name: str) -> str:
    """Return a file name or a path without a video's suffix; other suffixes stay."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


def as_id(path: str | Path) -> str:
    """A path as a video's id: bytes of a name that are no UTF-8 are written as \\xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def class_folders(root: Path) -> list[VideoEntry]:
    """The videos of a folder with one folder per class, sorted; ids are relative paths as text.

    Every file with a video's ending counts, readable or not: `prepare` says what became of each.
    """
    found = []
    for path in sorted(root.glob("*/*")):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith("."):
            video_id = as_id(path.relative_to(root).as_posix())
            found.append(VideoEntry(video_id, path, video_id.split("/")[0]))
    if not found:
        raise DataError(f"{root}: no videos in folders named after classes (CLASS/VIDEO.mp4)")
    return found


def first_folder(root: Path, *names: str) -> Path:
    """The first of the sub-folders that is there, else `root` itself."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def hashed_split(videos: Iterable[VideoEntry], test_share: float) -> Splits:
    """One split, "1", for a data set that has none: about `test_share` of the videos are for testing.

    They are chosen by a hash of their ids, so that adding a video hardly moves another: within each class, or, where
    videos have groups, as whole groups over all classes.
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
