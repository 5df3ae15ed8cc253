"""Tracks as rows of numbers, in memory and in text files of the original program's format."""

import gzip
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.idt.trajectories.parameters import PAPER, TrackParameters
from stmn.runtime.files import atomic_write

Rows = NDArray[np.float32]
#: numbers in a row with the paper's parameters
_COLUMNS = PAPER.columns
#: the x and y of 15 points, which some versions of the program write after the first ten numbers of a track
_POINT_COLUMNS = 30


@dataclass(frozen=True)
class Tracks:
    """Tracks that ended.

    Attributes:
        rows: (N, 436): ten numbers that `INFO` names; the displacements without camera motion, divided by the sum of
            their lengths; HOG, HOF, MBHx and MBHy. In a descriptor time is outermost, then the cell's column, its row,
            and the bin. With other parameters than the paper's there are `TrackParameters.columns` numbers.
        points: (N, 16, 2) x and y, pixels of the frame; None if unknown.
        parameters: The parameters that they were made with.
    """

    rows: Rows
    points: Rows | None = None
    parameters: TrackParameters = PAPER

    #: the first columns: the frame in which the track ended; mean and standard deviation of its points; the length of
    #: its path; its scale (1, 1.41, 2, ...); and its position, 0..1, in the frame's width and height and the video's
    #: time. All pixels are those of the frame; `t_pos` is NaN if the video's length was unknown
    INFO: ClassVar[tuple[str, ...]] = (
        "frame", "mean_x", "mean_y", "std_x", "std_y", "length", "scale", "x_pos", "y_pos", "t_pos",
    )  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def info(self) -> Rows:
        """(N, 10), the columns that `INFO` names."""
        return self._part(0)

    @property
    def trajectory(self) -> Rows:
        """(N, 30), dx and dy of each displacement, normalised."""
        return self._part(1)

    @property
    def hog(self) -> Rows:
        """(N, 96), directions of the brightness gradient."""
        return self._part(2)

    @property
    def hof(self) -> Rows:
        """(N, 108), directions of the flow; the last bin of each cell is no motion."""
        return self._part(3)

    @property
    def mbhx(self) -> Rows:
        """(N, 96), directions of the gradient of the flow's x."""
        return self._part(4)

    @property
    def mbhy(self) -> Rows:
        """(N, 96), directions of the gradient of the flow's y."""
        return self._part(5)

    def _part(self, number: int) -> Rows:
        """The columns of a part, as a view."""
        per_bin = self.parameters.cells**2 * self.parameters.spans
        sizes = (len(self.INFO), 2 * self.parameters.length, *(per_bin * bins for bins in self.parameters.bins))
        start = sum(sizes[:number])
        return self.rows[:, start : start + sizes[number]]


def join_tracks(parts: list[Tracks]) -> Tracks:
    """Join groups of tracks with the same parameters; without groups, return no tracks, with the paper's parameters."""
    if not parts:
        return Tracks(np.zeros((0, _COLUMNS), np.float32), np.zeros((0, 16, 2), np.float32))
    points = [part.points for part in parts if part.points is not None]
    rows = np.concatenate([part.rows for part in parts])
    return Tracks(rows, np.concatenate(points) if len(points) == len(parts) else None, parts[0].parameters)


def write_tracks(path: Path, tracks: Tracks) -> None:
    """Write rows as text, with numbers separated by tabs; compressed if the name ends in `.gz`.

    Raises:
        StmnError: The file can't be written.
    """
    with atomic_write(path) as temporary, _open_text(temporary, "w") as file:
        line = "\t".join(["%.9g"] * tracks.rows.shape[1]) + "\n"  # nine digits distinguish all float32 numbers
        for row in tracks.rows:
            file.write(line % tuple(row.tolist()))


def read_tracks(path: Path) -> Tracks:
    """Read the rows that `write_tracks` or the original program wrote, with the paper's parameters.

    Rows of 466 numbers, which some versions of the program write, have the x and y of 15 points after the first ten.

    Raises:
        DataError: The file can't be read, or a line is not 436 numbers.
    """
    rows: list[NDArray[np.float32]] = []
    first = 0
    try:
        with _open_text(path, "r") as file:
            for number, line in enumerate(file, 1):
                words = line.split()
                if not words:
                    continue
                if len(words) not in ({first} if first else {_COLUMNS, _COLUMNS + _POINT_COLUMNS}):
                    raise DataError(f"{path}, line {number}: {len(words)} columns, not {first or _COLUMNS}")
                first = len(words)
                try:
                    rows.append(np.array(words, np.float32))
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: {_first_wrong(words)!r} is not a number") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text of numbers, as programs for improved trajectories write it") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    every = np.stack(rows) if rows else np.zeros((0, _COLUMNS), np.float32)
    if every.shape[1] == _COLUMNS:
        return Tracks(every)
    info, points, rest = np.split(every, (len(Tracks.INFO), len(Tracks.INFO) + _POINT_COLUMNS), axis=1)
    return Tracks(np.concatenate([info, rest], axis=1), points.reshape(len(every), -1, 2))


@contextmanager
def _open_text(path: Path, mode: Literal["r", "w"]) -> Iterator[IO[str]]:
    """Open a text file, compressed if its name ends in .gz. The same content gives the same bytes."""
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(open(path, f"{mode}b"))
        if path.suffix == ".gz":
            file = cast("IO[bytes]", stack.enter_context(gzip.GzipFile("", f"{mode}b", 6, file, mtime=0)))
        yield stack.enter_context(TextIOWrapper(file, encoding="ascii"))


def _first_wrong(words: list[str]) -> str:
    """The first word that is not a number; empty if there is none."""
    for word in words:
        try:
            float(word)
        except ValueError:
            return word
    return ""
