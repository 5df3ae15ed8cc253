"""Write one shard: an SQLite file that a video enters in one transaction, or not at all."""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self

from stmn.datasets.base import VideoEntry
from stmn.errors import DataError

# Pictures share no page, so small pages waste least: of real clips 1.5 % at short side 256, 3 % at 128 and 12 % at 40,
# where 8192 wastes 11, 12 and 14 %. Reading ten fields takes 0.1 ms longer, of some 5 ms for a chunk (docs/loader.md).
PAGE_SIZE = 512

SCHEMA = """
CREATE TABLE IF NOT EXISTS videos (
    number INTEGER PRIMARY KEY,
    id TEXT UNIQUE NOT NULL,
    class TEXT NOT NULL,
    grp TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'skipped')),
    reason TEXT NOT NULL DEFAULT '',
    frames INTEGER NOT NULL DEFAULT 0,
    width INTEGER NOT NULL DEFAULT 0,
    height INTEGER NOT NULL DEFAULT 0,
    source_width INTEGER NOT NULL DEFAULT 0,
    source_height INTEGER NOT NULL DEFAULT 0,
    fps REAL NOT NULL DEFAULT 0,
    source_hash TEXT NOT NULL DEFAULT '',
    flow TEXT NOT NULL DEFAULT '',
    bound REAL NOT NULL DEFAULT 0,
    checksum INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS pictures (key INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sources (id TEXT PRIMARY KEY, stamp TEXT NOT NULL);
"""

#: kinds of pictures
RGB, FLOW = 0, 1


def picture_key(number: int, kind: int, t: int) -> int:
    """The row of a picture: a video's frames, then its flow fields, lie side by side on disk."""
    return (number << 33) | (kind << 32) | t


def checksum(kind: int, t: int, jpeg: bytes) -> int:
    """CRC-32 of a picture and of its place in its video. A video's is the sum of those of its pictures."""
    return zlib.crc32(jpeg, (kind << 31) | t)


@dataclass
class VideoFacts:
    """What is known of a video once it has been prepared. Sizes in pixels."""

    frames: int = 0
    width: int = 0
    height: int = 0
    source_width: int = 0
    source_height: int = 0
    fps: float = 0.0
    source_hash: str = ""
    flow: str = ""
    bound: float = 0.0


class VideoWriter:
    """Takes the pictures of one video; `facts` is filled in by the caller before the video is closed."""

    def __init__(self, connection: sqlite3.Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.facts = VideoFacts()
        self.checksum = 0

    def add(self, kind: int, t: int, jpeg: bytes) -> None:
        """Store picture `t` (counted from 0) of a kind (`RGB` or `FLOW`)."""
        self.connection.execute("INSERT INTO pictures VALUES (?, ?)", (picture_key(self.number, kind, t), jpeg))
        self.checksum += checksum(kind, t, jpeg)


class ShardWriter:
    """A shard, open for writing by one process. Use as a context manager.

    `patience` is how long it waits, in seconds, for another process that is at it.
    """

    def __init__(self, path: Path, patience: float = 60) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=patience)
        self.connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.executescript(SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything done inside enters together when the block ends well, and not at all when it raises."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def video(self, entry: VideoEntry) -> Iterator[VideoWriter]:
        """Everything added inside enters together when the block ends well, and not at all when it raises."""
        with self.transaction():
            number = self.insert(entry, "ok")
            writer = VideoWriter(self.connection, number)
            yield writer
            values = asdict(writer.facts) | {"checksum": writer.checksum}
            columns = ", ".join(f"{name} = :{name}" for name in values)
            self.connection.execute(f"UPDATE videos SET {columns} WHERE number = :number", values | {"number": number})

    def finished(self, video_id: str) -> "Finished | None":
        """What the shard says of a video; None when it has not come to it."""
        row = self.connection.execute("SELECT status, reason, frames FROM videos WHERE id = ?", (video_id,)).fetchone()
        return Finished(*row) if row else None

    def remove(self, video_id: str) -> None:
        """Take a video out, with its pictures."""
        with self.transaction():
            [number] = self.connection.execute("SELECT number FROM videos WHERE id = ?", (video_id,)).fetchone()
            first, end = picture_key(number, RGB, 0), picture_key(number + 1, RGB, 0)
            self.connection.execute("DELETE FROM pictures WHERE key >= ? AND key < ?", (first, end))
            self.connection.execute("DELETE FROM videos WHERE number = ?", (number,))

    def skip(self, entry: VideoEntry, reason: str) -> None:
        """Record that a video could not be prepared, and why."""
        self.insert(entry, "skipped", reason)

    def insert(self, entry: VideoEntry, status: str, reason: str = "") -> int:
        """A row of the video table; returns its number."""
        cursor = self.connection.execute(
            "INSERT INTO videos (id, class, grp, status, reason) VALUES (?, ?, ?, ?, ?)",
            (entry.id, entry.class_name, entry.group, status, reason),
        )
        return int(cursor.lastrowid or 0)


class Finished(NamedTuple):
    """What became of a video; `reason` says why it was skipped."""

    status: str
    reason: str
    frames: int


def finished_videos(folder: Path) -> dict[str, Finished]:
    """Every video recorded in a folder's shards, by id; heals what killed writers left.

    Raises `DataError` when a shard is damaged, or when another process writes it.
    """
    found: dict[str, Finished] = {}
    places: dict[str, Path] = {}
    for path in shard_paths(folder):
        with healed(path) as shard:
            for video_id, *row in shard.connection.execute("SELECT id, status, reason, frames FROM videos").fetchall():
                finished = Finished(*row)
                if video_id not in found:
                    found[video_id], places[video_id] = finished, path
                # Its first writer died, or was given up, after it had entered it and before anybody knew, and
                # another one did it again; both have the same pictures, unless one only recorded that death.
                elif finished.status == "ok" and found[video_id].status != "ok":
                    with healed(places[video_id]) as other:
                        other.remove(video_id)
                    found[video_id], places[video_id] = finished, path
                else:
                    shard.remove(video_id)
    return found


@contextmanager
def healed(path: Path) -> Iterator[ShardWriter]:
    """A shard that nobody else writes; opening it rolls a hot journal back and makes the tables where they are missing.

    Raises `DataError` when it is damaged, or when another process is at it.
    """
    try:
        with ShardWriter(path, patience=5) as shard:
            with shard.transaction():  # fails where a process that nobody waits for is not done yet
                if journal_path(path).exists():
                    # SQLite leaves one alone whose writer was killed before it had touched the shard; to readers it
                    # would look like one that is needed. Writing replaces it.
                    shard.connection.execute("PRAGMA user_version = 0")
            yield shard
    except sqlite3.DatabaseError as error:
        code = error.sqlite_errorcode & 0xFF  # without SQLite's finer distinctions
        if code == sqlite3.SQLITE_BUSY:
            raise DataError(f"{path}: another process is writing here; wait for it, or end it") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise DataError(f"{path}: can't be written: {error}") from error
        raise DataError(f"{path}: damaged shard: {error}; delete the file and prepare again") from error


def journal_path(shard: Path) -> Path:
    """Where SQLite keeps what undoes an unfinished transaction."""
    return shard.with_name(f"{shard.name}-journal")


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a prepared set."""
    return sorted((folder / "shards").glob("*.sqlite"))


def shard_path(folder: Path, worker: int, machine: str = "") -> Path:
    """The shard that a worker writes; `machine` tells apart those that several machines write."""
    return folder / "shards" / f"{machine}{worker:03d}.sqlite"
