"""`csv`: a list of videos, or of segments of videos, in a CSV file.

For example:

    path,class,group,split
    clips/a.mp4,wave,anna,train
    /elsewhere/b.avi,clap,bert,test
"""

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from stmn.datasets.base import PARTS, Dataset, Splits, VideoEntry, as_id, hashed_split, missing_file, split_of
from stmn.datasets.groups import AUTO, SURELY_LIKE_UCF101, GroupNames
from stmn.datasets.matching import FileMatcher, describe_corrections
from stmn.datasets.table import Table, TableErrors, TableRow, read_table
from stmn.datasets.times import parse_time
from stmn.errors import DataError, UsageError, near_match

#: column names for the start and the end of a segment: the first is used here, the others mean the same
_TIMES = {
    "start": ("start", "start_time", "time_start", "t_start", "start_s", "start_sec", "start_seconds", "begin"),
    "end": ("end", "end_time", "time_end", "t_end", "end_s", "end_sec", "end_seconds", "stop"),
}


class CsvList(Dataset):
    """The videos of a CSV file, in the order of the file.

    The header line names the columns. A list without one has the columns path, class or path, start, end, class; in a
    `.txt` file, blanks may separate path and class.

    Columns:
        path: Relative to the CSV's folder, or absolute; it is the video's id. Required. If there is no such file, the
            only file that matches is taken, ignoring case, suffix, the direction of slashes, and top folders of another
            machine.
        class: Required.
        group: Optional. Videos of one group are never on both sides of a split that is made here.
        start, end: Optional; start_time, end_time and the like mean the same. The row is the segment from `start` up to
            `end` (seconds, or H:MM:SS) of the video; an empty `end` means the end of the video. A file may then have
            several rows, and is their group unless there is a column group.
        split: "train", "val", "test", or empty to leave the video out. Several splits are columns split1, split2, ...

    Other columns are not used; `notes` reports them.

    Args:
        root: The CSV file.
        test_share: Without a column split, about this fraction of the videos, in whole groups, is for testing.
        group_pattern: Without a column group, a regular expression that is searched in a video's path; its first
            brackets match the group. Without either, names like UCF101's (`_gNN_cMM`) give groups; with "auto", so do
            the parts that other names share apart from their classes.
        groups: Without a column group, whether the same group name in two classes is one group (`shared`) or two
            (`per_class`), as for the data set `ucf101`.

    Raises:
        DataError: The file can't be read or a line is wrong; the message names the first such line.
        UsageError: There is a column group, and an option about groups is given too.
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
        self._start, self._end = (_time_column(table, name) for name in _TIMES)
        if "split" in self._split_columns and len(self._split_columns) > 1:
            raise DataError(
                f"{root}, line 1: columns 'split' and '{self._split_columns[-1]}'; write split1, split2, ..."
            )
        self._has_groups = "group" in table.columns
        if self._has_groups and (group_pattern not in ("", AUTO) or groups):
            given = "groups" if group_pattern in ("", AUTO) else "group_pattern"
            raise UsageError(f"{root}: has a column group, and the option {given} gives groups too; use one of them")
        self._unused = [
            name for name in table.columns
            if name and name not in ("path", "class", "group", self._start, self._end, *self._split_columns)
        ]  # fmt: skip
        self._files = FileMatcher(root.parent)
        self._header_note = "" if table.has_header else f"no header line: its columns are {', '.join(table.columns)}"
        self._rows = table.rows
        self._check_rows()

    def videos(self) -> list[VideoEntry]:
        """List one video per row."""
        named = list(self._entries)
        if not self._has_groups:
            named = self._groups.name(named)
            named = [replace(v, group=_file_of(v)) if v.segment and not v.group else v for v in named]
        return named

    def notes(self, videos: Sequence[VideoEntry]) -> Iterator[str]:
        """Say which columns are not used, which paths were matched to other files, and what a group is."""
        if self._header_note:
            yield self._header_note
        if self._unused:
            yield f"columns not used: {', '.join(map(as_id, self._unused))}"
        if corrected := describe_corrections(self._files.corrected):
            yield corrected
        if not self._has_groups and (said := self._groups.describe(videos)):
            yield said

    def split_notes(self, replaced: bool = False) -> Iterator[str]:
        """Say that folds replace the split columns."""
        if replaced and self._split_columns:
            several = "s" * (len(self._split_columns) > 1)
            yield f"column{several} {', '.join(self._split_columns)}: not used; the folds are of all videos"

    def lacks(self, video: VideoEntry) -> str:
        """Return why a video is unavailable: it has no file."""
        return missing_file(video.path)

    def splits(self) -> Splits:
        """Return the splits of the columns split ("1") or split1 ("1"), split2 ("2"), ...; else one made here."""
        if not self._split_columns:
            return hashed_split(self.videos(), self.test_share)
        found: Splits = {}
        for column in self._split_columns:
            parts: dict[str, list[str]] = {}
            for row, video in zip(self._rows, self._entries, strict=True):
                if part := PARTS.get(row[column].lower()):
                    parts.setdefault(part, []).append(video.id)
            found[column.removeprefix("split") or "1"] = split_of(parts)
        return found

    @cached_property
    def _entries(self) -> list[VideoEntry]:
        """The video of each row, with the group from the column group."""
        entries = []
        for row in self._rows:
            path = self._files.find(row["path"])
            name = self._files.corrected.get(row["path"]) or posixpath.normpath(row["path"])
            start, end = parse_time(row[self._start]) or 0.0, parse_time(row[self._end])
            video = VideoEntry(as_id(name), path, as_id(row["class"]), as_id(row["group"]), start, end)
            entries.append(replace(video, id=f"{video.id}#{video.segment}") if video.segment else video)
        return entries

    def _check_rows(self) -> None:
        """Raise `DataError`, which names the first wrong line."""
        errors = TableErrors(self.root)
        wrong = {row.line for row in self._rows if self._check_cells(row, errors)}
        errors.check()
        if not self._rows:
            raise DataError(f"{self.root}: lists no videos")
        first: dict[tuple[str, str], int] = {}
        for row, video in zip(self._rows, self._entries, strict=True):
            place = os.path.abspath(video.path), video.segment
            if row.line not in wrong and place in first:
                errors.add(row.line, f"the same path as in line {first[place]}: {video.id}")
            first.setdefault(place, row.line)
        errors.check()

    def _check_cells(self, row: TableRow, errors: TableErrors) -> bool:
        """Record the errors in a row by itself; return True if there are any."""
        before = errors.count
        if not row["path"]:
            errors.add(row.line, "no path")
        elif not row["class"]:
            errors.add(row.line, "no class")
        times = []
        for column in (self._start, self._end):
            try:
                times.append(parse_time(row[column]))
            except ValueError:
                errors.add(row.line, f"{column} is '{row[column]}'; it must be seconds, such as 2.5, or H:MM:SS")
        if len(times) == 2 and times[1] is not None and times[1] <= (times[0] or 0.0):
            errors.add(row.line, f"ends at {row[self._end]}, not after its start, {row[self._start] or 0}")
        for column in self._split_columns:
            if (part := row[column].lower()) and part not in PARTS:
                near = near_match(part, ("train", "val", "test"))
                errors.add(row.line, f"{column} is '{row[column]}'{near}; it must be train, val, test or empty")
        return errors.count > before


def _file_of(video: VideoEntry) -> str:
    """Return the id of a segment's file."""
    return video.id.removesuffix(f"#{video.segment}")


def _time_column(table: Table, name: str) -> str:
    """Return the column with the start or the end of a segment; "" if there is none.

    Raises:
        DataError: There are several, or the column counts frames.
    """
    found = [column for column in table.columns if column in _TIMES[name]]
    if len(found) > 1:
        raise DataError(f"{table.path}, line 1: columns '{found[0]}' and '{found[1]}' both say the {name}")
    if not found and (frames := {f"{name}_frame", f"frame_{name}"} & set(table.columns)):
        raise DataError(f"{table.path}, line 1: column '{frames.pop()}': give the {name} in seconds, as '{name}'")
    return found[0] if found else ""
