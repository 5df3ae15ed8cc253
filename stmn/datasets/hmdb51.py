"""`hmdb51`: HMDB51 as published.

Videos: `CLASS/NAME.avi`. Lists: `CLASS_test_split{1,2,3}.txt`, where 1 is train, 2 is test, and 0 is unused.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from stmn.datasets.base import Dataset, LeftOut, Splits, VideoEntry, first_folder
from stmn.datasets.list_text import read_list
from stmn.datasets.matching import NameMatcher, describe_corrections
from stmn.datasets.scan import ClassFolders, scan_folder
from stmn.errors import DataError

_PARTS = {"1": "train", "2": "test"}


class HMDB51(Dataset):
    """HMDB51, or any data set with lists like its own.

    Args:
        root: The folder of videos, or one that holds `hmdb51_org/` or `videos/`.
        lists: The folder of lists; by default `testTrainMulti_7030_splits/` or `splits/` under the root, or the root.

    Raises:
        DataError: There is no such folder.
    """

    renames = frozenset({"lists"})

    def __init__(self, root: Path, lists: str | None = None) -> None:
        super().__init__(root)
        self._videos = first_folder(root, "hmdb51_org", "videos")
        self._lists = Path(lists) if lists else first_folder(root, "testTrainMulti_7030_splits", "splits")
        self._matcher = NameMatcher(())

    def videos(self) -> list[VideoEntry]:
        """List all videos; the group is the film that a clip was cut from."""
        self._folders.check(self._videos)
        return [VideoEntry(v.id, v.path, v.class_name, group_of(v.id, v.class_name)) for v in self._folders.videos]

    def notes(self, videos: Sequence[VideoEntry]) -> Iterator[str]:
        """Say what is taken as a class, and which names in the lists differ from those on disk."""
        yield from self._folders.notes()
        yield from filter(None, [describe_corrections(self._matcher.corrected)])

    def left_out(self) -> list[LeftOut]:
        """Return files and folders that are not videos of the set."""
        return self._folders.left_out

    @cached_property
    def _folders(self) -> ClassFolders:
        """The class folders; scanned once, and only if videos are listed."""
        return ClassFolders(scan_folder(self._videos), ignore=("testTrainMulti_7030_splits", "splits"))

    def splits(self) -> Splits:
        """Return the published splits "1", "2" and "3"."""
        self._matcher = NameMatcher(video.id for video in self._folders.videos)
        return self._matcher.correct(read_splits(self._lists))


def group_of(name: str, class_name: str) -> str:
    """Return the film that a clip was cut from: the part of its name before the class."""
    return Path(name).name.split(f"_{class_name}_")[0]


def read_splits(folder: Path) -> Splits:
    """Read the splits of a folder of lists. Raises `DataError` if there are none."""
    found: Splits = {}
    for path in sorted(folder.glob("*_test_split*.txt")):
        match = re.fullmatch(r"(.+)_test_split(\d+)", path.stem)
        if match is None:
            continue
        split = found.setdefault(match[2], {"train": [], "test": []})
        for line in read_list(path).splitlines():
            name, _, part = line.strip().rpartition(" ")
            if part in _PARTS:
                split[_PARTS[part]].append(f"{match[1]}/{name.strip()}")
    if not found:
        raise DataError(f"{folder}: no CLASS_test_split1.txt; name the folder with --dataset-options lists=FOLDER")
    return found


def read_classes(folder: Path) -> dict[str, str]:
    """Return file name -> class for every listed video, whether or not a split uses it."""
    return {
        line.strip().rpartition(" ")[0].strip(): path.stem.split("_test_split")[0]
        for path in sorted(folder.glob("*_test_split*.txt"))
        for line in read_list(path).splitlines()
        if line.strip()
    }
