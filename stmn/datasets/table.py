"""CSV files with a header line, and which data set such a file is of."""

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from stmn.errors import DataError, near_match

#: what may separate cells; spreadsheets of half the world write semicolons
SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, counted from 1, and its cells by column, without outer blanks."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        """The cell; empty when there is no such column."""
        return self.cells.get(column, "")


class Mistakes:
    """Gathers what is wrong with a table, to say the first and how many more there are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []

    def add(self, line: int, what: str) -> None:
        """Something is wrong in a line."""
        self.lines.append(f"{self.path}, line {line}: {what}")

    def check(self) -> None:
        """Raise `DataError` with one line when anything is wrong."""
        if self.lines:
            more = len(self.lines) - 1
            counted = f" ({more} more line{'s are' if more > 1 else ' is'} wrong)" if more else ""
            raise DataError(self.lines[0] + counted)


@dataclass(frozen=True)
class Table:
    """A CSV file: its columns (lower case) and its rows; empty lines don't count."""

    path: Path
    columns: list[str]
    rows: list[Row]

    def require(self, columns: Collection[str], optional: Collection[str] = ()) -> None:
        """Raise `DataError` when one of `columns` is missing, or one of `optional` seems to be misspelt."""
        for name in columns:
            if name not in self.columns:
                there = ", ".join(filter(None, self.columns)) or "none"
                raise DataError(f"{self.path}, line 1: no column '{name}'; it has: {there}")
        missing = [name for name in optional if name not in self.columns]
        for name in self.columns:
            if name not in (*columns, *optional) and (near := near_match(name, missing)):
                raise DataError(f"{self.path}, line 1: unknown column '{name}'{near}")


def read_table(path: Path) -> Table:
    """Read a CSV file.

    Raises `DataError` when it can't be read, or naming the line whose cells don't fit the header.
    """
    lines = numbered_lines(path)
    columns = [name.strip().lower() for name in next(lines, (1, [""]))[1]]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line 1: two columns '{twice[0]}'")
    wrong, rows = Mistakes(path), []
    for line, cells in lines:
        if len(cells) == len(columns):
            rows.append(Row(line, {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}))
        else:
            wrong.add(line, f"{len(cells)} cells, but the header has {len(columns)}")
    wrong.check()
    return Table(path, columns, rows)


def numbered_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row that is not empty; a row that spans lines has the number of its last."""
    if not path.is_file():
        raise DataError(f"{path}: no such CSV file")
    # utf-8-sig: spreadsheets begin with a byte-order mark; surrogateescape: names of files may hold any bytes
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        first = file.readline()
        file.seek(0)
        separator = max(SEPARATORS, key=first.count)
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
        try:
            for cells in reader:
                if any(cells):
                    yield reader.line_num, cells
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: {error}") from error


def columns_of(path: Path) -> set[str]:
    """The columns of a CSV file, without reading its rows."""
    return {name.strip().lower() for name in next(numbered_lines(path), (1, [""]))[1]}


def dataset_of(path: Path) -> str:
    """The data set plugin that a CSV file is for, by its header line. Raises `DataError` when it is for none."""
    columns = columns_of(path)
    if "youtube_id" in columns:
        return "kinetics"
    if "path" in columns:
        return "csv"
    raise DataError(
        f"{path}, line 1: no list of videos: it needs the columns path, class (and group, split), or those of "
        f"Kinetics; it has: {', '.join(sorted(filter(None, columns))) or 'none'}"
    )
