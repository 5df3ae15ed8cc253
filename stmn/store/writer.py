"""Write one shard: an SQLite file that a video enters in one transaction, or not at all."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

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
    bound REAL NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS pictures (key INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
"""

#: kinds of pictures
RGB, FLOW = 0, 1


def picture_key(number: int, kind: int, t: int) -> int:
    """The row of a picture: a video's frames, then its flow fields, lie side by side on disk."""
    return (number << 33) | (kind << 32) | t


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

    def add(self, kind: int, t: int, jpeg: bytes) -> None:
        """Store picture `t` (counted from 0) of a kind (`RGB` or `FLOW`)."""
        self.connection.execute("INSERT INTO pictures VALUES (?, ?)", (picture_key(self.number, kind, t), jpeg))


class ShardWriter:
    """A shard, open for writing by one process. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        self.connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.executescript(SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.connection.close()

    @contextmanager
    def video(self, entry: VideoEntry) -> Iterator[VideoWriter]:
        """Everything added inside enters together when the block ends well, and not at all when it raises."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            number = self.insert(entry, "ok")
            writer = VideoWriter(self.connection, number)
            yield writer
            columns = ", ".join(f"{name} = :{name}" for name in asdict(writer.facts))
            self.connection.execute(
                f"UPDATE videos SET {columns} WHERE number = :number", asdict(writer.facts) | {"number": number}
            )
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

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


def finished_videos(folder: Path) -> dict[str, tuple[str, str, int]]:
    """id -> (status, reason, frames) of every video recorded in a folder's shards; heals what a killed writer left."""
    found: dict[str, tuple[str, str, int]] = {}
    for path in shard_paths(folder):
        try:
            # opening for writing rolls a hot journal back and makes the tables where they are missing
            with ShardWriter(path) as shard:
                rows = shard.connection.execute("SELECT id, status, reason, frames FROM videos").fetchall()
        except sqlite3.DatabaseError as error:
            raise DataError(f"{path}: damaged shard: {error}; delete the file and prepare again") from error
        found |= {row[0]: row[1:] for row in rows}
    return found


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a prepared set."""
    return sorted((folder / "shards").glob("*.sqlite"))


def shard_path(folder: Path, worker: int) -> Path:
    """The shard that a worker writes."""
    return folder / "shards" / f"{worker:03d}.sqlite"
