"""`folder`: any folder of videos, as CLASS/VIDEO.mp4, or as train/CLASS/..., val/CLASS/... and test/CLASS/..."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from stmn.datasets.base import PARTS, Dataset, LeftOut, Splits, VideoEntry, hashed_split, split_of
from stmn.datasets.groups import SURELY_LIKE_UCF101, GroupNames
from stmn.datasets.scan import ClassFolders, Scan, scan_folder
from stmn.errors import DataError

#: names of a folder that may hold the class folders if it is the only one with videos
_HOLDERS = frozenset({"avi", "clips", "data", "dataset", "media", "mp4", "raw", "video", "videos"})


class Folder(Dataset):
    """A folder per class. Folders such as `train/`, `val/` and `test/` above them are the split.

    The class folders may lie in a folder `videos/`, `clips/` or `data/`.

    Videos may lie deeper; their class is still the top folder. Without `test/`, the split tests on `val/`; with it,
    `val/` is neither trained on nor tested. If there is only `train/`, the split is made here.

    Args:
        root: The folder.
        test_share: Without such folders, about this fraction of the videos is for testing: whole groups or, if there
            are none, videos of each class, chosen by a hash of their ids, so that adding a video rarely moves another.
        group_pattern: A regular expression that is searched in a video's id, CLASS/VIDEO.mp4; its first brackets match
            the group. Without it, names like UCF101's (`_gNN_cMM`) give groups; with "auto", so do the parts that other
            names share apart from their classes, as in `bend/daria_bend.avi` and `jack/daria_jack.avi`.
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

    def videos(self) -> list[VideoEntry]:
        """List all videos, sorted by path.

        Raises:
            DataError: There are none in class folders.
        """
        folders = self._class_folders
        if list(folders) == [""]:
            folders[""].check(self.root)
            return self._groups.name(folders[""].videos)
        found = []
        for part, classes in folders.items():
            classes.check(self.root / part)
            found += [VideoEntry(f"{part}/{video.id}", video.path, video.class_name) for video in classes.videos]
        return self._groups.name(found)

    def notes(self, videos: Sequence[VideoEntry]) -> Iterator[str]:
        """Say what is taken as a class and as a group."""
        if self._scan.root != self.root:
            yield f"the class folders are those in {self._scan.root.name}/"
        for classes in self._class_folders.values():
            yield from classes.notes()
        part = next(iter(self._class_folders))
        if part and len(self._class_folders) == 1:
            yield f"there is {part}/ alone: its folders are the classes, and the split is made here"
        if said := self._groups.describe(videos):
            yield said

    def split_notes(self, replaced: bool = False) -> Iterator[str]:
        """Say what is taken as a part of the split."""
        parts = {part: PARTS[part.lower()] for part in self._class_folders if part}
        if len(parts) > 1 and replaced:
            yield f"{_list(list(parts))}: not used as a split; the folds are of all videos"
        elif len(parts) > 1 and "validation" in parts.values():
            use = "neither trained on nor tested" if "test" in parts.values() else "the test part"
            yield f"split 1: {_list([part for part in parts if parts[part] == 'validation'])} is {use}"

    def left_out(self) -> list[LeftOut]:
        """Return files and folders that are not videos of the set."""
        return self._outside + [item for classes in self._class_folders.values() for item in classes.left_out]

    def splits(self) -> Splits:
        """Return the only split, "1"."""
        if len(self._class_folders) == 1:
            return hashed_split(self.videos(), self.test_share)
        parts: dict[str, list[str]] = {}
        for video in self.videos():
            parts.setdefault(PARTS[video.id.split("/")[0].lower()], []).append(video.id)
        return {"1": split_of(parts)}

    @cached_property
    def _scan(self) -> Scan:
        """The contents of the folder of the class folders; scanned once, and only if videos are listed."""
        scan = scan_folder(self.root)
        for holder in (path for path in scan.folders if path.parent == self.root and path.name.lower() in _HOLDERS):
            within = [path.relative_to(self.root).parts for path in scan.files]
            alone = all(parts[0] == holder.name and len(parts) > 2 for parts in within)
            if alone and len({parts[1] for parts in within}) > 1:
                return scan.under(holder)
        return scan

    @cached_property
    def _part_folders(self) -> list[Path]:
        """The folders `train`, `test`, ... at the top, if they hold class folders.

        Raises:
            DataError: There are no other folders, and they hold videos without class folders.
        """
        tops = [path for path in self._scan.folders if path.parent == self._scan.root]
        parts = [path for path in tops if path.name.lower() in PARTS]
        alone = len(parts) == len(tops) == 1  # one part, whose folders are the classes
        if len({PARTS[path.name.lower()] for path in parts}) < 2 and not alone:
            return []
        direct = [path for path in parts if any(file.parent == path for file in self._scan.files)]
        if not direct:
            return parts
        if len(parts) == len(tops) and not alone:
            raise DataError(
                f"{direct[0]}: its videos are in no class folders ({direct[0].name}/CLASS/VIDEO.mp4); move them into "
                "some, or list them in a CSV file with the columns path, class, split"
            )
        return []

    @cached_property
    def _class_folders(self) -> dict[str, ClassFolders]:
        """Name of a part's folder -> its class folders; "" stands for a root without parts."""
        parts = self._part_folders
        return {path.name: ClassFolders(self._scan.under(path)) for path in parts} or {"": ClassFolders(self._scan)}

    @property
    def _outside(self) -> list[LeftOut]:
        """The videos outside the folders of the parts."""
        parts = self._part_folders
        if not parts:
            return []
        outside = [path for path in self._scan.files if not any(part in path.parents for part in parts)]
        return [LeftOut(path, f"outside {_list([part.name for part in parts])}") for path in outside]


def _list(names: Sequence[str]) -> str:
    """Join names: `train/, val/ and test/`."""
    named = [f"{name}/" for name in names]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
