"""`csv`: a list of videos in a CSV file, such as

path,class,group,split
clips/a.mp4,wave,anna,train
/elsewhere/b.avi,clap,bert,test
"""

import re
from pathlib import Path, PurePosixPath

from stmn.datasets.base import Dataset, Splits, VideoEntry, as_id, hashed_split, no_file
from stmn.datasets.table import Mistakes, Row, read_table
from stmn.errors import DataError, near_match

PARTS = ("train", "test")


class CsvList(Dataset):
    """The videos of a CSV file with a header line; its order is the file's.

    `path` is relative to the CSV's folder, or absolute, and is the video's id. `class` is needed; `group` may be
    missing (videos of one group are never on both sides of a split that is made here). `split` says train or test; an
    empty cell leaves the video out. Several splits are columns split1, split2, ...; without any, about `test_share`
    of the videos, whole groups, are for testing. Other columns are not read.
    """

    def __init__(self, root: Path, test_share: float = 0.3) -> None:
        self.root = root
        self.test_share = float(test_share)
        table = read_table(root)
        self.split_columns = [name for name in table.columns if re.fullmatch(r"split\d*", name)]
        table.require(("path", "class"), ("group", "split", *self.split_columns))
        if "split" in self.split_columns and len(self.split_columns) > 1:
            raise DataError(
                f"{root}, line 1: columns 'split' and '{self.split_columns[-1]}'; write split1, split2, ..."
            )
        self.rows = table.rows
        self.check_rows()

    def check_rows(self) -> None:
        """Raise `DataError` naming the first line that is wrong."""
        wrong = Mistakes(self.root)
        first: dict[str, int] = {}
        for row in self.rows:
            video_id = id_of(row)
            if not row["path"]:
                wrong.add(row.line, "no path")
            elif video_id in first:
                wrong.add(row.line, f"the path of line {first[video_id]} again: {video_id}")
            elif not row["class"]:
                wrong.add(row.line, "no class")
            first.setdefault(video_id, row.line)
            for column in self.split_columns:
                if (part := row[column].lower()) not in (*PARTS, ""):
                    near = near_match(part, PARTS)
                    wrong.add(row.line, f"{column} '{row[column]}' is neither train nor test nor empty{near}")
        wrong.check()
        if not self.rows:
            raise DataError(f"{self.root}: lists no videos")

    def videos(self) -> list[VideoEntry]:
        """One video a row."""
        folder = self.root.parent
        return [
            VideoEntry(id_of(row), folder / row["path"], as_id(row["class"]), as_id(row["group"])) for row in self.rows
        ]

    def lacks(self, video: VideoEntry) -> str:
        """Says when the file is not there."""
        return no_file(video.path)

    def splits(self) -> Splits:
        """The splits of the columns split ("1") or split1 ("1"), split2 ("2"), ...; else one that is made here."""
        if not self.split_columns:
            return hashed_split(self.videos(), self.test_share)
        return {
            column.removeprefix("split") or "1": {
                part: [id_of(row) for row in self.rows if row[column].lower() == part] for part in PARTS
            }
            for column in self.split_columns
        }


def id_of(row: Row) -> str:
    """The path as it is written, but for `./` and doubled slashes."""
    return as_id(PurePosixPath(row["path"]).as_posix())
