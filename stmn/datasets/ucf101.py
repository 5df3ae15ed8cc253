"""UCF101 as it is published, and any data set in its list format.

Videos: `UCF-101/CLASS/v_CLASS_gNN_cMM.avi` (or `videos/`, or the class folders themselves). Lists:
`ucfTrainTestlist/{classInd,trainlist01,testlist01,...}.txt` (or `splits/`).
"""

import re
from pathlib import Path

from stmn.datasets.base import Dataset, Splits, VideoEntry, class_folders, first_folder
from stmn.errors import DataError


class UCF101(Dataset):
    """`lists` is the folder of the official lists; by default it is looked for beside the videos."""

    def __init__(self, root: Path, lists: str | None = None) -> None:
        super().__init__(root)
        self.video_root = first_folder(root, "UCF-101", "videos")
        self.lists = Path(lists) if lists else first_folder(root, "ucfTrainTestlist", "splits")

    def videos(self) -> list[VideoEntry]:
        """All videos in the class folders; the group is the `gNN` of the name, within its class."""
        return [
            VideoEntry(video.id, video.path, video.class_name, group_of(video.id))
            for video in class_folders(self.video_root)
        ]

    def splits(self) -> Splits:
        """The published splits "1", "2", "3"; the lists decide, whether or not the videos are there."""
        return read_splits(self.lists)


def group_of(name: str) -> str:
    """The `gNN` of a name `v_CLASS_gNN_cMM`; empty when it has none."""
    match = re.search(r"_g(\d+)_", name)
    return f"g{match[1]}" if match else ""


def read_splits(folder: Path) -> Splits:
    """The splits of a folder of lists. Raises `DataError` when there are none, or one half is missing."""
    found: Splits = {}
    for path in sorted(folder.glob("trainlist*.txt")):
        number = path.stem.removeprefix("trainlist")
        test = path.with_name(f"testlist{number}.txt")
        if not test.exists():
            raise DataError(f"{test}: missing beside {path.name}")
        found[str(int(number))] = {"train": read_list(path), "test": read_list(test)}
    if not found:
        raise DataError(f"{folder}: no trainlist01.txt; name the folder with lists=FOLDER")
    return found


def read_list(path: Path) -> list[str]:
    """The video ids of a list file; train lists carry a class number behind each id, which is not needed."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [re.sub(r"\s+\d+$", "", line) for line in lines if line]
