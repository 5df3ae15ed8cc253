"""`ucf101`: UCF101 as published, and other data sets with lists in its format.

Videos: `UCF-101/CLASS/v_CLASS_gNN_cMM.avi` (or `videos/`, or the class folders themselves). Lists:
`ucfTrainTestlist/{classInd,trainlist01,testlist01,...}.txt` (or `splits/`).
"""

import re
from pathlib import Path

from stmn.datasets.base import Dataset, Splits, VideoEntry, class_folders, first_folder
from stmn.errors import DataError


class UCF101(Dataset):
    """UCF101, or any data set with lists like its own.

    Args:
        root: The folder of videos, or one that holds `UCF-101/` or `videos/`.
        lists: The folder of lists; by default `ucfTrainTestlist/` or `splits/` under the root, or the root.

    Raises:
        DataError: There is no such folder.
    """

    def __init__(self, root: Path, lists: str | None = None) -> None:
        super().__init__(root)
        self._videos = first_folder(root, "UCF-101", "videos")
        self._lists = Path(lists) if lists else first_folder(root, "ucfTrainTestlist", "splits")

    def videos(self) -> list[VideoEntry]:
        """List all videos in the class folders; the group is the `gNN` of the name."""
        return [VideoEntry(v.id, v.path, v.class_name, group_of(v.id)) for v in class_folders(self._videos)]

    def splits(self) -> Splits:
        """Return the published splits "1", "2" and "3", whether or not their videos exist."""
        return read_splits(self._lists)


def group_of(name: str) -> str:
    """Return the `gNN` of a name `v_CLASS_gNN_cMM`; "" if it has none."""
    match = re.search(r"_g(\d+)_", name)
    return f"g{match[1]}" if match else ""


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
        raise DataError(f"{folder}: no trainlist01.txt; name the folder with lists=FOLDER")
    return found


def _read_list(path: Path) -> list[str]:
    """The video ids of a list. Train lists have a class number after each id, which is not needed."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [re.sub(r"\s+\d+$", "", line) for line in lines if line]
