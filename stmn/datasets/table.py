"""Read CSV files, with or without a header line, and tell from the columns which data set a file is for."""

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from stmn.datasets.base import without_suffix
from stmn.datasets.list_text import read_list
from stmn.errors import DataError, near_match
from stmn.runtime.csv_cells import plain_cell

#: possible cell separators; in many countries spreadsheets write semicolons
_SEPARATORS = ",;\t"
_NUMBER = re.compile(r"\d+(\.\d*)?")
#: the columns of AVA's lists, which have no header line; the first versions lack the last one
_AVA = ["video_id", "middle_time", "x1", "y1", "x2", "y2", "action_id", "person_id"]
_AVA_TIMES = ("middle_frame_timestamp", "middle_timestamp", "timestamp", "time_stamp")


@dataclass(frozen=True)
class TableRow:
    """A row of a table: its line number in the file, from 1, and its cells by column, stripped of blanks."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        """Return a cell; "" if there is no such column."""
        return self.cells.get(column, "")


class TableErrors:
    """Collects the errors in a table, to report the first one and the number of others."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._messages: list[str] = []

    def add(self, line: int, message: str) -> None:
        """Record an error in a line."""
        self._messages.append(f"{self._path}, line {line}: {message}")

    @property
    def count(self) -> int:
        """Number of recorded errors."""
        return len(self._messages)

    def check(self) -> None:
        """Raise `DataError` if there are errors."""
        if self._messages:
            more = len(self._messages) - 1
            counted = f" ({more} more line{'s are' if more > 1 else ' is'} wrong)" if more else ""
            raise DataError(self._messages[0] + counted)


@dataclass(frozen=True)
class Table:
    """A CSV file: its columns, in lower case, and its rows, without empty ones.

    Without a header line the columns are guessed from the first row.
    """

    path: Path
    columns: list[str]
    rows: list[TableRow]
    has_header: bool = True

    def require(self, columns: Collection[str], optional: Collection[str] = ()) -> None:
        """Check the columns.

        Raises:
            DataError: One of `columns` is missing, or one of `optional` looks misspelt.
        """
        for name in columns:
            if name not in self.columns:
                has = ", ".join(filter(None, self.columns)) or "none"
                raise DataError(f"{self.path}, line 1: no column '{name}'; it has: {has}")
        missing = [name for name in optional if name not in self.columns]
        for name in self.columns:
            if name not in (*columns, *optional) and (near := near_match(name, missing)):
                raise DataError(f"{self.path}, line 1: unknown column '{name}'{near}")


def read_table(path: Path) -> Table:
    """Read a CSV file.

    Raises:
        DataError: The file can't be read, a column occurs twice, or a row doesn't fit the header; the message names the
            line.
    """
    lines = list(_read_lines(path))
    columns, has_header = _find_columns(path, lines)
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line 1: two columns '{twice[0]}'")
    errors, rows = TableErrors(path), []
    for line, cells in lines[has_header:]:
        if len(cells) == len(columns):
            rows.append(
                TableRow(line, {name: plain_cell(cell.strip()) for name, cell in zip(columns, cells, strict=True)})
            )
        else:
            errors.add(line, f"{len(cells)} cells, but the header has {len(columns)}")
    errors.check()
    return Table(path, columns, rows, has_header)


def read_columns(path: Path) -> set[str]:
    """Return the columns of a CSV file without reading its rows. Raises `DataError` if it can't be read."""
    return set(_find_columns(path, list(islice(_read_lines(path), 1)))[0])


def dataset_of(path: Path) -> str:
    """Return the name of the data set plugin that a CSV file is for, judging by its header.

    Raises:
        DataError: The file can't be read, or is not a list of videos.
    """
    if path.suffix.lower() == ".json":
        return "activitynet"
    columns = read_columns(path)
    if "youtube_id" in columns:
        return "kinetics"
    if {"video_id", "middle_time", "action_id"} <= columns:
        return "ava"
    if "path" in columns:
        return "csv"
    raise DataError(
        f"{path}, line 1: not a list of videos: it needs the columns path, class (and group, split), or those of "
        f"Kinetics or AVA; it has: {', '.join(sorted(filter(None, columns))) or 'none'}"
    )


def _find_columns(path: Path, lines: list[tuple[int, list[str]]]) -> tuple[list[str], bool]:
    """Return the columns, and whether the first line names them.

    Lists without a header line have the columns path, class; or path, start, end, class; or AVA's.
    """
    first = [cell.strip() for cell in lines[0][1]] if lines else [""]
    if len(first) == 2 and first[0] and (without_suffix(first[0]) != first[0] or (path.parent / first[0]).exists()):
        return ["path", "class"], False
    if len(first) in (7, 8) and all(_NUMBER.fullmatch(cell) for cell in first[1:2] + list(filter(None, first[2:6]))):
        return _AVA[: len(first)], False
    if len(first) == 4 and all(_NUMBER.fullmatch(cell) for cell in first[1:3]):
        return ["path", "start", "end", "class"], False
    names = [name.lower() for name in first]
    if "video_id" in names:  # AVA's own columns have no names, and tools name the second one differently
        names = ["middle_time" if name in _AVA_TIMES else name for name in names]
    return names, True


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of each non-empty row; a row that spans lines has the number of its last line."""
    if not path.is_file():
        raise DataError(f"{path}: no such CSV file")
    text = read_list(path)
    separator = max(_SEPARATORS, key=text.partition("\n")[0].count)
    if path.suffix.lower() == ".txt" and separator not in text.partition("\n")[0]:
        for number, row in enumerate(text.splitlines(), 1):
            if row.strip():
                yield number, row.rsplit(None, 1)
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
