"""Any folder of videos: CLASS/VIDEO.mp4, or train/CLASS/... and test/CLASS/... ."""

from pathlib import Path

from stmn.datasets.base import Dataset, Splits, VideoEntry, class_folders, hashed_split


class Folder(Dataset):
    """One folder per class.

    With `train/` and `test/` folders on top these are the split; otherwise about `test_share` of each class's videos,
    chosen by a hash of their ids (so that adding a video moves no other), are for testing.
    """

    def __init__(self, root: Path, test_share: float = 0.3) -> None:
        super().__init__(root)
        self.test_share = float(test_share)
        self.parts = [part for part in ("train", "test") if (root / part).is_dir()]

    def videos(self) -> list[VideoEntry]:
        """All videos, sorted by id."""
        if len(self.parts) < 2:
            return class_folders(self.root)
        return [
            VideoEntry(f"{part}/{video.id}", video.path, video.class_name)
            for part in self.parts
            for video in class_folders(self.root / part)
        ]

    def splits(self) -> Splits:
        """One split, "1"."""
        if len(self.parts) == 2:
            ids = [video.id for video in self.videos()]
            return {"1": {part: [i for i in ids if i.startswith(f"{part}/")] for part in self.parts}}
        return hashed_split(self.videos(), self.test_share)
