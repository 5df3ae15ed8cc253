"""`folder`: any folder of videos, as CLASS/VIDEO.mp4, or as train/CLASS/... and test/CLASS/..."""

from collections.abc import Sequence
from pathlib import Path

from stmn.datasets.base import Dataset, Splits, VideoEntry, class_folders, hashed_split
from stmn.datasets.groups import SURELY_LIKE_UCF101, GroupNames


class Folder(Dataset):
    """A folder per class. Folders `train/` and `test/` above them are the split, if there are both.

    Args:
        root: The folder.
        test_share: Without such folders, about this fraction of the videos is for testing: whole groups or, if there
            are none, videos of each class, chosen by a hash of their ids, so that adding a video moves no other.
        group_pattern: A regular expression that is searched in a video's id, CLASS/VIDEO.mp4; what its first brackets
            match is the group. Without it, names like UCF101's (`_gNN_cMM`) give groups.
        groups: Whether the same group name in two classes is one group (`shared`) or two (`per_class`), as for the
            data set `ucf101`.

    Raises:
        DataError: There is no such folder.
        ValueError: `group_pattern` or `groups` is wrong.
    """

    renames = frozenset({"groups", "group_pattern", "test_share"})

    def __init__(self, root: Path, test_share: float = 0.3, group_pattern: str = "", groups: str | None = None) -> None:
        super().__init__(root)
        self._groups = GroupNames(group_pattern, groups, SURELY_LIKE_UCF101)
        self.test_share = float(test_share)
        self._parts = [part for part in ("train", "test") if (root / part).is_dir()]

    def videos(self) -> list[VideoEntry]:
        """List all videos, sorted by id."""
        if len(self._parts) < 2:
            return self._groups.name(class_folders(self.root))
        return self._groups.name(
            [
                VideoEntry(f"{part}/{video.id}", video.path, video.class_name)
                for part in self._parts
                for video in class_folders(self.root / part)
            ]
        )

    def describe_groups(self, videos: Sequence[VideoEntry]) -> str:
        """Say what is taken for a group."""
        return self._groups.describe(videos)

    def splits(self) -> Splits:
        """Return the one split, "1"."""
        if len(self._parts) == 2:
            ids = [video.id for video in self.videos()]
            return {"1": {part: [i for i in ids if i.startswith(f"{part}/")] for part in self._parts}}
        return hashed_split(self.videos(), self.test_share)
