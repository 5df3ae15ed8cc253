"""Descriptors and Fisher vectors of videos, kept in shards like those of a prepared set.

A shard has one writer, and a video enters in one transaction (`stmn.store.format.write`). The records of a video are a
line of facts, and blocks of numbers.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from stmn.errors import DataError
from stmn.idt.codebook import WIDTH
from stmn.runtime.json_files import parse_json
from stmn.store.format.shard import (
    CHECKSUMMED,
    DAMAGE,
    REMEDY,
    check_rows,
    describe_damage,
    journal_path,
    open_read_only,
    picture_checksum,
    picture_key,
    shard_paths,
)
from stmn.store.format.write import PictureWriter

#: kinds of records, in the place of frames and flow fields
_NUMBERS, _FACTS = 0, 1
#: descriptors per record: 3.2 MB
_BLOCK = 4096


@dataclass(frozen=True)
class Facts:
    """How many tracks a video has, and how many of their descriptors were kept."""

    tracks: int
    kept: int

    @property
    def whole(self) -> bool:
        """True if all descriptors were kept."""
        return self.kept == self.tracks


_FACT_LINES = TypeAdapter(Facts)


def write_numbers(writer: PictureWriter, rows: NDArray[Any], facts: Facts) -> None:
    """Write a video's (N, W) numbers as float16, and its facts."""
    writer.add(_FACTS, 0, json.dumps(asdict(facts)).encode())
    halves = np.ascontiguousarray(rows, dtype=np.float16)
    for number, start in enumerate(range(0, len(halves), _BLOCK)):
        writer.add(_NUMBERS, number, halves[start : start + _BLOCK].tobytes())


class ShardReader:
    """Reads the shards of a folder. Use as a context manager.

    Args:
        folder: A run's folder with `shards/`.
        width: Numbers in a row.

    Raises:
        DataError: A shard is damaged, or a process is writing it or was interrupted.
    """

    def __init__(self, folder: Path, width: int = WIDTH) -> None:
        self.folder, self._width = folder, width
        self._connections: list[sqlite3.Connection] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._checksums: dict[str, int] = {}
        #: video id -> why it was skipped; "" if it was not; an unknown id raises `DataError`
        self.reasons: dict[str, str] = _Reasons(folder)
        for shard, path in enumerate(shard_paths(folder)):
            if journal_path(path).exists():
                raise DataError(
                    f"{path}: is being written, or was interrupted; run the same command again to finish it"
                )
            self._connections.append(open_read_only(path))
            with self._connection(shard) as connection:
                rows = check_rows(connection, "videos", path)
            for values in rows:
                row = dict(zip(CHECKSUMMED["videos"], values, strict=True))
                self._places[row["id"]] = (shard, row["number"])
                self._checksums[row["id"]], self.reasons[row["id"]] = row["checksum"], row["reason"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for connection in self._connections:
            connection.close()

    def facts(self, video_id: str) -> Facts:
        """Return the facts of a video. Raises `DataError` if it was skipped or is damaged."""
        found = list(self._records(video_id, _FACTS))
        try:
            return _FACT_LINES.validate_python(parse_json(found[0]))
        except (IndexError, ValueError) as error:
            raise self._damaged(video_id, "its facts can't be read") from error

    def blocks(self, video_id: str) -> Iterator[NDArray[np.float16]]:
        """Yield the rows of a video, (n, width) at a time.

        Raises:
            DataError: The video was skipped, or is damaged.
        """
        total = sum(picture_checksum(_FACTS, t, content) for t, content in enumerate(self._records(video_id, _FACTS)))
        for t, content in enumerate(self._records(video_id, _NUMBERS)):
            total += picture_checksum(_NUMBERS, t, content)
            if len(content) % (2 * self._width):
                raise DataError(f"{self.folder}: {video_id!r}: holds no rows of {self._width} numbers")
            yield np.frombuffer(content, np.float16).reshape(-1, self._width)
        if total != self._checksums[video_id]:
            raise self._damaged(video_id, "its records are not what was written (checksum)")

    def rows(self, video_id: str) -> NDArray[np.float16]:
        """Return the rows of a video, (N, width). Raises as `blocks` does."""
        found = list(self.blocks(video_id))
        return np.concatenate(found) if found else np.zeros((0, self._width), np.float16)

    def _records(self, video_id: str, kind: int) -> Iterator[bytes]:
        """Yield a video's records of a kind, in order; only one is in memory at a time."""
        if video_id not in self._places:
            raise _lacks(self.folder, video_id)
        if reason := self.reasons[video_id]:
            raise DataError(f"{self.folder}: {video_id!r} was skipped: {reason}")
        shard, number = self._places[video_id]
        first, last = (picture_key(number, kind, t) for t in (0, 0xFFFFFFFF))
        keys = self._query(shard, "SELECT key FROM pictures WHERE key BETWEEN ? AND ? ORDER BY key", (first, last))
        for (key,) in keys:
            [record] = self._query(shard, "SELECT * FROM pictures WHERE key = ?", (key,))
            _, content, *written = record  # shards of older versions have no checksums of records
            if isinstance(content, bytes) and written in ([], [None], [picture_checksum(kind, key - first, content)]):
                yield content
            else:
                raise self._damaged(video_id, "its records are not what was written (checksum)")

    def _damaged(self, video_id: str, why: str) -> DataError:
        """The error for a video whose records are damaged."""
        path = shard_paths(self.folder)[self._places[video_id][0]]
        return DataError(f"{path}: is damaged: video {video_id!r}: {why}; {REMEDY}")

    def _query(self, shard: int, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises `DataError` if the shard is damaged."""
        with self._connection(shard) as connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def _connection(self, shard: int) -> Iterator[sqlite3.Connection]:
        """Yield the connection to a shard; SQLite's errors in the block become `DataError`."""
        try:
            yield self._connections[shard]
        except DAMAGE as error:
            raise describe_damage(shard_paths(self.folder)[shard], error) from error


class _Reasons(dict[str, str]):
    """Video id -> reason; a video that is in no shard of a folder raises `DataError`."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, video_id: str) -> str:
        raise _lacks(self._folder, video_id)


def _lacks(folder: Path, video_id: str) -> DataError:
    """The error for a video that is in no shard."""
    return DataError(f"{folder}: no video {video_id!r}; repeat the command that wrote it to add what is missing")


class Sample:
    """A random sample of a video's rows, of bounded size, in the rows' order.

    Each row draws a number, and the rows with the smallest are kept, so the sample depends only on seed and rows.

    Args:
        size: The most rows to keep.
        seed: Seed of the draws.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._draws = size, np.random.default_rng(seed)
        self._rows: list[NDArray[np.float16]] = []
        self._numbers: list[NDArray[np.float64]] = []
        self._held = 0
        self.seen = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Offer (N, W) rows."""
        self._rows.append(rows.astype(np.float16))
        self._numbers.append(self._draws.random(len(rows)))
        self._held += len(rows)
        self.seen += len(rows)
        if self._held > 2 * self._size:
            self._reduce()

    def finish(self) -> NDArray[np.float16]:
        """Return the sample: (N, W), all rows if there are at most `size`."""
        self._reduce()
        return self._rows[0] if self._rows else np.zeros((0, WIDTH), np.float16)

    def _reduce(self) -> None:
        """Keep the rows with the smallest numbers."""
        if not self._rows:
            return
        rows, numbers = np.concatenate(self._rows), np.concatenate(self._numbers)
        if len(rows) > self._size:
            stay = np.sort(np.argpartition(numbers, self._size)[: self._size])
            rows, numbers = rows[stay], numbers[stay]
        self._rows, self._numbers, self._held = [rows], [numbers], len(rows)
