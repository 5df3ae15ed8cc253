"""`ucf101`: UCF101 as published, and other data sets with lists in its format.

Videos: `UCF-101/CLASS/v_CLASS_gNN_cMM.avi` (or `videos/`, or the class folders themselves). Lists:
`ucfTrainTestlist/{classInd,trainlist01,testlist01,...}.txt` (or `splits/`).
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from stmn.datasets.base import Dataset, LeftOut, Splits, VideoEntry, first_folder
from stmn.datasets.groups import GroupNames
from stmn.datasets.list_text import read_list
from stmn.datasets.matching import NameMatcher, describe_corrections
from stmn.datasets.scan import ClassFolders, scan_folder
from stmn.errors import DataError


class UCF101(Dataset):
    """UCF101, or any data set with lists like its own.

    Args:
        root: The folder of videos, or one that holds `UCF-101/` or `videos/`.
        lists: The folder of lists; by default `ucfTrainTestlist/` or `splits/` under the root, or the root.
        groups: Meaning of the `gNN` of a name. `per_class`: a recording of one class, so g01 of two classes is two
            groups, as in UCF101 itself. `shared`: the same person or recording in all classes. By default `per_class`
            if all classes are among UCF101's own, and `shared` otherwise, because taking two groups for one is the
            safer mistake.

    Raises:
        DataError: There is no such folder.
        ValueError: `groups` is neither `per_class` nor `shared`.
    """

    renames = frozenset({"groups", "lists"})

    def __init__(self, root: Path, lists: str | None = None, groups: str | None = None) -> None:
        super().__init__(root)
        self._groups = GroupNames(scope=groups)
        self._videos = first_folder(root, "UCF-101", "videos")
        self._lists = Path(lists) if lists else first_folder(root, "ucfTrainTestlist", "splits")
        self._matcher = NameMatcher(())

    def videos(self) -> list[VideoEntry]:
        """List all videos in the class folders; the group is the `gNN` of the name, if necessary with the class."""
        self._folders.check(self._videos)
        return self._groups.name(self._folders.videos)

    def notes(self, videos: Sequence[VideoEntry]) -> Iterator[str]:
        """Say what is taken as a class, and whether `gNN` is the same group in all classes."""
        yield from self._folders.notes()
        yield from filter(None, [describe_corrections(self._matcher.corrected), self._groups.describe(videos)])

    def left_out(self) -> list[LeftOut]:
        """Return files and folders that are not videos of the set."""
        return self._folders.left_out

    @cached_property
    def _folders(self) -> ClassFolders:
        """The class folders; scanned once, and only if videos are listed."""
        return ClassFolders(scan_folder(self._videos), ignore=("ucfTrainTestlist", "splits"))

    def splits(self) -> Splits:
        """Return the published splits "1", "2" and "3", whether or not their videos exist."""
        self._matcher = NameMatcher(video.id for video in self._folders.videos)
        return self._matcher.correct(read_splits(self._lists))


def read_splits(folder: Path) -> Splits:
    """Read the splits of a folder of lists. Raises `DataError` if there are none, or a test list is missing."""
    found: Splits = {}
    for path in sorted(folder.glob("trainlist*.txt")):
        number = path.stem.removeprefix("trainlist")
        test = path.with_name(f"testlist{number}.txt")
        if not test.exists():
            raise DataError(f"{test}: missing beside {path.name}")
        found[str(int(number))] = {"train": _read_list(path), "test": _read_list(test)}
    if not found:
        raise DataError(f"{folder}: no trainlist01.txt; name the folder with --dataset-options lists=FOLDER")
    return found


def _read_list(path: Path) -> list[str]:
    """Read the video ids of a list. Train lists have a class number after each id, which is not needed."""
    lines = (line.strip() for line in read_list(path).splitlines())
    return [re.sub(r"\s+\d+$", "", line) for line in lines if line]
