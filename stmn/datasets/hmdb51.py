"""HMDB51 as it is published: `CLASS/NAME.avi`, and `CLASS_test_split{1,2,3}.txt` with 1 train, 2 test, 0 unused."""

import re
from pathlib import Path

from stmn.datasets.base import Dataset, Splits, VideoEntry, class_folders, first_folder
from stmn.errors import DataError

PARTS = {"1": "train", "2": "test"}


class HMDB51(Dataset):
    """`lists` is the folder of the official lists; by default it is looked for beside the videos."""

    def __init__(self, root: Path, lists: str | None = None) -> None:
        super().__init__(root)
        self.video_root = first_folder(root, "hmdb51_org", "videos")
        self.lists = Path(lists) if lists else first_folder(root, "testTrainMulti_7030_splits", "splits")

    def videos(self) -> list[VideoEntry]:
        """All videos; the group is the film that a clip was cut from (the name before the class)."""
        return [
            VideoEntry(v.id, v.path, v.class_name, group_of(v.id, v.class_name)) for v in class_folders(self.video_root)
        ]

    def splits(self) -> Splits:
        """The published splits "1", "2", "3"."""
        return read_splits(self.lists)


def group_of(name: str, class_name: str) -> str:
    """The film that a clip was cut from: what stands in its name before the class."""
    return Path(name).name.split(f"_{class_name}_")[0]


def read_splits(folder: Path) -> Splits:
    """The splits of a folder of lists. Raises `DataError` when there are none."""
    found: Splits = {}
    for path in sorted(folder.glob("*_test_split*.txt")):
        match = re.fullmatch(r"(.+)_test_split(\d+)", path.stem)
        if match is None:
            continue
        split = found.setdefault(match[2], {"train": [], "test": []})
        for line in path.read_text().splitlines():
            name, _, part = line.strip().rpartition(" ")
            if part in PARTS:
                split[PARTS[part]].append(f"{match[1]}/{name.strip()}")
    if not found:
        raise DataError(f"{folder}: no CLASS_test_split1.txt; name the folder with lists=FOLDER")
    return found


def listed_classes(folder: Path) -> dict[str, str]:
    """File name of every listed video, used in a split or not -> its class."""
    return {
        line.strip().rpartition(" ")[0].strip(): path.stem.split("_test_split")[0]
        for path in sorted(folder.glob("*_test_split*.txt"))
        for line in path.read_text().splitlines()
        if line.strip()
    }
