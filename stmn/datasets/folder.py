"""Any folder of videos: CLASS/VIDEO.mp4, or train/CLASS/... and test/CLASS/... ."""

import hashlib
from pathlib import Path

from stmn.datasets.base import Dataset, Splits, VideoEntry, class_folders


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
        ids = [video.id for video in self.videos()]
        if len(self.parts) == 2:
            return {"1": {part: [i for i in ids if i.startswith(f"{part}/")] for part in self.parts}}
        train: list[str] = []
        test: list[str] = []
        by_class: dict[str, list[str]] = {}
        for video_id in ids:
            by_class.setdefault(video_id.split("/")[0], []).append(video_id)
        for members in by_class.values():
            ordered = sorted(members, key=lambda video_id: hashlib.sha256(video_id.encode()).digest())
            held_out = round(len(ordered) * self.test_share)
            test += ordered[:held_out]
            train += ordered[held_out:]
        return {"1": {"train": sorted(train), "test": sorted(test)}}
