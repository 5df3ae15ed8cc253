"""The contract of a data set.

A data set lists videos with id, path, class name and group, and says which video belongs to which part of which split.
Class names, never numbers, are the truth.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stmn.errors import DataError

VIDEO_ENDINGS = frozenset(
    [
        ".avi",
        ".mp4",
        ".mkv",
        ".mov",
        ".webm",
        ".mpg",
        ".mpeg",
        ".m4v",
        ".wmv",
        ".flv",
        ".3gp",
        ".ts",
        ".ogv",
        ".gif",
        ".m2ts",
        ".vob",
        ".asf",
    ]
)

#: split name -> part ("train", "test") -> video ids
Splits = dict[str, dict[str, list[str]]]


@dataclass(frozen=True)
class VideoEntry:
    """One video: `id` is unique in the data set; videos of one `group` never stand on both sides of a split."""

    id: str
    path: Path
    class_name: str
    group: str = ""


class Dataset:
    """Base of data sets: built with a root folder and options of its own.

    `keeps` names the augmentations that leave a clip's class as it is: "mirror" (left-right), "crop" (parts of the
    frame). The loader uses no others.
    """

    keeps: frozenset[str] = frozenset({"mirror", "crop"})
    #: True for a data set that needs no folder of videos: `fetch` makes them under the root it is given
    makes_videos: bool = False

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


def class_folders(root: Path) -> list[VideoEntry]:
    """The videos of a folder with one folder per class, sorted; ids are relative paths as text.

    Every file with a video's ending counts, readable or not: `prepare` says what became of each.
    """
    found = []
    for path in sorted(root.glob("*/*")):
        if path.suffix.lower() in VIDEO_ENDINGS and path.is_file() and not path.name.startswith("."):
            # a name may hold bytes that are no UTF-8: an id shows them as \xff, the path keeps them
            video_id = os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")
            found.append(VideoEntry(video_id, path, video_id.split("/")[0]))
    if not found:
        raise DataError(f"{root}: no videos in folders named after classes (CLASS/VIDEO.mp4)")
    return found


def first_folder(root: Path, *names: str) -> Path:
    """The first of the sub-folders that is there, else `root` itself."""
    return next((root / name for name in names if (root / name).is_dir()), root)
