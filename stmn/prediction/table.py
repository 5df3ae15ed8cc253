"""Predictions for many videos as one table, a row per video or per window: CSV, lines of JSON, or Parquet."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from stmn.errors import MissingExtra
from stmn.prediction.classifier import ClassScore
from stmn.prediction.rows import RowFile
from stmn.runtime.csv_cells import safe_cell
from stmn.runtime.files import atomic_write

#: suffixes of the tables that can be written
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
#: the class that stands for "no known class"
UNKNOWN = "unknown"
#: rows of a Parquet file in memory at a time
_BATCH = 10_000


class PredictionTable(RowFile):
    """A table with the columns video, class, score, class_2, score_2, ..., start_s, end_s, frames, notes, error.

    A video that fails has one row, with the error.

    Args:
        file: An empty text file, open for writing.
        top: How many classes a row has.
        as_csv: Write CSV; if false, lines of JSON.
    """

    def __init__(self, file: TextIO, top: int, as_csv: bool) -> None:
        super().__init__(file)
        self.columns = _columns(top)
        self._csv = csv.writer(file) if as_csv else None
        if self._csv:
            self._csv.writerow(self.columns)
        self.commit()

    def add(
        self, video: str, ranked: Sequence[ClassScore], start: float, end: float, frames: int,
        notes: Sequence[str] = (), unknown: bool = False,
    ) -> None:  # fmt: skip
        """Write a row: the best classes of a video, or of one of its windows.

        Args:
            video: The video's name.
            ranked: Its classes, best first.
            start: Where it begins, seconds.
            end: Where it ends, seconds.
            frames: How many frames it has, at the rate of the model.
            notes: Messages about it, such as damage.
            unknown: It is of no known class: the first class is then `UNKNOWN`, without a score; the others follow.
        """
        scores: dict[str, Any] = {"class": UNKNOWN} if unknown else {}
        for (name, score), found in zip(_pairs(self.columns)[int(unknown) :], ranked, strict=False):
            scores |= {name: found.class_name, score: round(found.score, 6)}
        times = {"start_s": round(start, 3), "end_s": round(end, 3), "frames": frames}
        self._write({"video": video} | scores | times | {"notes": "; ".join(notes) or None})

    def fail(self, video: str, error: str) -> None:
        """Remove the rows of a video, and write one with the error."""
        self.roll_back()
        self._write({"video": video, "error": error})
        self.commit()

    def _write(self, row: dict[str, Any]) -> None:
        """Write a row; columns without a value are empty."""
        cells = {name: _escape(row.get(name)) for name in self.columns}
        if self._csv is None:
            self._file.write(json.dumps(cells, ensure_ascii=False) + "\n")
        else:
            self._csv.writerow(safe_cell(cell) if isinstance(cell, str) else cell for cell in cells.values())


@contextmanager
def write_predictions(path: Path, classes: int, top: int) -> Iterator[PredictionTable]:
    """Open a table, which appears at `path` if the block ends without an error.

    Args:
        path: Where it is written; its suffix, one of `TABLE_SUFFIXES`, decides the format.
        classes: How many classes there are.
        top: The most classes in a row.

    Raises:
        MissingExtra: Parquet needs a package that is not installed.
        StmnError: The file can't be written.
    """
    kind, top = path.suffix.lower(), min(top, classes)
    if kind == ".parquet":
        _check_parquet()
    with atomic_write(path) as temporary, ExitStack() as stack:
        text = temporary
        if kind == ".parquet":  # rows can't be removed from it, so it is made from JSON at the end
            text = Path(stack.enter_context(TemporaryDirectory(prefix=".", dir=path.parent))) / "rows.jsonl"
        with open(text, "w", newline="", encoding="utf-8") as file:
            yield PredictionTable(file, top, kind == ".csv")
        if kind == ".parquet":
            _write_parquet(text, temporary, _columns(top))


def _columns(top: int) -> list[str]:
    """The names of the columns."""
    others = [f"{name}_{rank}" for rank in range(2, top + 1) for name in ("class", "score")]
    return ["video", "class", "score", *others, "start_s", "end_s", "frames", "notes", "error"]


def _escape(cell: Any) -> Any:
    """Make a cell's text valid Unicode: names may hold any bytes."""
    return cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell


def _pairs(columns: Sequence[str]) -> list[tuple[str, str]]:
    """The names of the class column and the score column of each rank."""
    return list(zip(_starting(columns, "class"), _starting(columns, "score"), strict=True))


def _starting(columns: Sequence[str], start: str) -> list[str]:
    """The columns whose names start like this."""
    return [name for name in columns if name.startswith(start)]


def _check_parquet() -> None:
    """Raise `MissingExtra` if Parquet can't be written; called before anything is classified."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtra("Parquet", "pyarrow", "parquet") from error


def _write_parquet(lines: Path, path: Path, columns: Sequence[str]) -> None:
    """Make a Parquet file from lines of JSON."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    def kind(name: str) -> Any:
        if name == "frames":
            return pyarrow.int64()
        return pyarrow.float64() if name.startswith(("score", "start", "end")) else pyarrow.string()

    schema = pyarrow.schema([(name, kind(name)) for name in columns])
    with ParquetWriter(path, schema) as writer, open(lines, encoding="utf-8") as file:
        while batch := list(islice(file, _BATCH)):
            writer.write_table(pyarrow.Table.from_pylist(list(map(json.loads, batch)), schema=schema))
