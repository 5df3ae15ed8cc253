"""`folder`: any folder of videos, as CLASS/VIDEO.mp4, or as train/CLASS/... and test/CLASS/..."""

from pathlib import Path

from stmn.datasets.base import Dataset, Splits, VideoEntry, class_folders, hashed_split


class Folder(Dataset):
    """A folder per class. Folders `train/` and `test/` above them are the split, if there are both.

    Args:
        root: The folder.
        test_share: Without such folders, about this fraction of each class's videos is for testing, chosen by a hash of
            their ids, so that adding a video moves no other.

    Raises:
        DataError: There is no such folder.
    """

    def __init__(self, root: Path, test_share: float = 0.3) -> None:
        super().__init__(root)
        self.test_share = float(test_share)
        self._parts = [part for part in ("train", "test") if (root / part).is_dir()]

    def videos(self) -> list[VideoEntry]:
        """List all videos, sorted by id."""
        if len(self._parts) < 2:
            return class_folders(self.root)
        return [
            VideoEntry(f"{part}/{video.id}", video.path, video.class_name)
            for part in self._parts
            for video in class_folders(self.root / part)
        ]

    def splits(self) -> Splits:
        """Return the one split, "1"."""
        if len(self._parts) == 2:
            ids = [video.id for video in self.videos()]
            return {"1": {part: [i for i in ids if i.startswith(f"{part}/")] for part in self._parts}}
        return hashed_split(self.videos(), self.test_share)
