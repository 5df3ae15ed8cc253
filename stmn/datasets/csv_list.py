"""`csv`: a list of videos in a CSV file.

For example:

    path,class,group,split
    clips/a.mp4,wave,anna,train
    /elsewhere/b.avi,clap,bert,test
"""

import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

from stmn.datasets.base import Dataset, Splits, VideoEntry, as_id, hashed_split, missing_file
from stmn.datasets.groups import SURELY_LIKE_UCF101, GroupNames
from stmn.datasets.table import TableErrors, TableRow, read_table
from stmn.errors import DataError, UsageError, near_match

_PARTS = ("train", "test")


class CsvList(Dataset):
    """The videos of a CSV file with a header line, in the order of the file.

    Columns:
        path: Relative to the CSV's folder, or absolute; it is the video's id. Required.
        class: Required.
        group: Optional. Videos of one group are never on both sides of a split that is made here.
        split: "train", "test", or empty to leave the video out. Several splits are columns split1, split2, ...

    Other columns are ignored.

    Args:
        root: The CSV file.
        test_share: Without a column split, about this fraction of the videos, in whole groups, is for testing.
        group_pattern: Without a column group, a regular expression that is searched in a video's path; what its first
            brackets match is the group. Without either, names like UCF101's (`_gNN_cMM`) give groups.
        groups: Without a column group, whether the same group name in two classes is one group (`shared`) or two
            (`per_class`), as for the data set `ucf101`.

    Raises:
        DataError: The file can't be read or a line is wrong; names the first such line.
        UsageError: There are a column group and one of the options about groups.
        ValueError: `group_pattern` or `groups` is wrong.
    """

    renames = frozenset({"groups", "group_pattern", "test_share"})

    def __init__(self, root: Path, test_share: float = 0.3, group_pattern: str = "", groups: str | None = None) -> None:
        self.root = root
        self._groups = GroupNames(group_pattern, groups, SURELY_LIKE_UCF101)
        self.test_share = float(test_share)
        table = read_table(root)
        self._split_columns = [name for name in table.columns if re.fullmatch(r"split\d*", name)]
        table.require(("path", "class"), ("group", "split", *self._split_columns))
        if "split" in self._split_columns and len(self._split_columns) > 1:
            raise DataError(
                f"{root}, line 1: columns 'split' and '{self._split_columns[-1]}'; write split1, split2, ..."
            )
        self._has_groups = "group" in table.columns
        if self._has_groups and (group_pattern or groups):
            given = "group_pattern" if group_pattern else "groups"
            raise UsageError(f"{root}: has a column group, and the option {given} gives groups too; use one of them")
        self._rows = table.rows
        self._check_rows()

    def videos(self) -> list[VideoEntry]:
        """List one video per row."""
        folder = self.root.parent
        videos = [
            VideoEntry(_id_of(row), folder / row["path"], as_id(row["class"]), as_id(row["group"]))
            for row in self._rows
        ]
        return videos if self._has_groups else self._groups.name(videos)

    def notes(self, videos: Sequence[VideoEntry]) -> list[str]:
        """Say what is taken for a group, unless a column says so."""
        return list(filter(None, [self._groups.describe(videos)])) if not self._has_groups else []

    def lacks(self, video: VideoEntry) -> str:
        """Return why a video is unavailable: it has no file."""
        return missing_file(video.path)

    def splits(self) -> Splits:
        """Return the splits of the columns split ("1") or split1 ("1"), split2 ("2"), ...; else one made here."""
        if not self._split_columns:
            return hashed_split(self.videos(), self.test_share)
        return {
            column.removeprefix("split") or "1": {
                part: [_id_of(row) for row in self._rows if row[column].lower() == part] for part in _PARTS
            }
            for column in self._split_columns
        }

    def _check_rows(self) -> None:
        """Raise `DataError` naming the first line that is wrong."""
        errors = TableErrors(self.root)
        first: dict[str, int] = {}
        for row in self._rows:
            file = os.path.abspath(self.root.parent / row["path"])
            if not row["path"]:
                errors.add(row.line, "no path")
            elif file in first:
                errors.add(row.line, f"the same path as in line {first[file]}: {_id_of(row)}")
            elif not row["class"]:
                errors.add(row.line, "no class")
            first.setdefault(file, row.line)
            for column in self._split_columns:
                if (part := row[column].lower()) not in (*_PARTS, ""):
                    near = near_match(part, _PARTS)
                    errors.add(row.line, f"{column} is '{row[column]}'{near}; it must be train, test or empty")
        errors.check()
        if not self._rows:
            raise DataError(f"{self.root}: lists no videos")


def _id_of(row: TableRow) -> str:
    """The path as written, without `./`, `x/../` and doubled slashes."""
    return as_id(posixpath.normpath(row["path"])) if row["path"] else ""
