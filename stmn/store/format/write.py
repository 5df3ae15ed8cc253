"""Write shards: a video is added in one transaction, or not at all."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self

from stmn.datasets.base import VideoEntry
from stmn.errors import DataError
from stmn.store.format.shard import (
    CHECKSUMMED,
    DAMAGE,
    PAGE_SIZE,
    RGB,
    SCHEMA,
    TOTALS,
    check_rows,
    describe_damage,
    has_totals,
    journal_path,
    picture_checksum,
    picture_key,
    row_checksum,
    shard_paths,
)


@dataclass
class VideoFacts:
    """Facts about a prepared video. Sizes in pixels."""

    frames: int = 0
    width: int = 0
    height: int = 0
    source_width: int = 0
    source_height: int = 0
    fps: float = 0.0
    source_hash: str = ""
    flow: str = ""
    bound: float = 0.0


class RecordedVideo(NamedTuple):
    """A shard's record of a video; `reason` says why it was skipped."""

    status: str
    reason: str
    frames: int


class SourceRecord(NamedTuple):
    """The source of a video. `stamp` describes its source files; None if it was not recorded."""

    id: str
    status: str
    class_name: str
    group: str
    source_hash: str
    stamp: str | None


class PictureWriter:
    """Stores the pictures of one video. The caller sets `facts`, and optionally a `note`, before the block ends."""

    def __init__(self, connection: sqlite3.Connection, number: int) -> None:
        self._connection = connection
        self._number = number
        self.facts = VideoFacts()
        self.note = ""
        self.checksum = 0

    def add(self, kind: int, t: int, jpeg: bytes) -> None:
        """Store picture `t` (counted from 0) of a kind (`RGB` or `FLOW`)."""
        crc, key = picture_checksum(kind, t, jpeg), picture_key(self._number, kind, t)
        self._connection.execute("INSERT INTO pictures VALUES (?, ?, ?)", (key, jpeg, crc))
        self.checksum += crc


class ShardWriter:
    """A shard, open for writing by one process. Use as a context manager.

    Every change belongs inside `transaction()`; `add_video` and `remove_video` open their own.

    Args:
        path: The shard; created if it does not exist.
        patience: Seconds to wait for another process that is writing.
    """

    def __init__(self, path: Path, patience: float = 60) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=patience)
        self._connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(SCHEMA)
        if not has_totals(self._connection):
            self._begin_totals()
        self._keep_totals()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything done inside the block; undo all of it if the block raises."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def add_video(self, entry: VideoEntry, stamp: str | None = None) -> Iterator[PictureWriter]:
        """Add a video with the pictures that are written inside the block, in one transaction.

        Args:
            entry: The video.
            stamp: The stamp of its source (see `stmn.store.prepare.sources`), if known.
        """
        with self.transaction():
            number = self._insert(entry, "ok", "", stamp)
            writer = PictureWriter(self._connection, number)
            yield writer
            values = asdict(writer.facts) | {"checksum": writer.checksum}
            columns = ", ".join(f"{name} = :{name}" for name in values)
            self._connection.execute(f"UPDATE videos SET {columns} WHERE number = :number", values | {"number": number})
            self._connection.execute("DELETE FROM notes WHERE id = ?", (entry.id,))
            if writer.note:
                self._connection.execute("INSERT INTO notes VALUES (?, ?)", (entry.id, writer.note))

    def skip_video(self, entry: VideoEntry, reason: str, stamp: str) -> None:
        """Record that a video could not be prepared, why, and the stamp of its source at that time."""
        self._insert(entry, "skipped", reason, stamp)

    def remove_video(self, video_id: str) -> None:
        """Delete a video and its pictures, in one transaction."""
        with self.transaction():
            [number] = self._connection.execute("SELECT number FROM videos WHERE id = ?", (video_id,)).fetchone()
            first, end = picture_key(number, RGB, 0), picture_key(number + 1, RGB, 0)
            self._connection.execute("DELETE FROM pictures WHERE key >= ? AND key < ?", (first, end))
            self._connection.execute("DELETE FROM videos WHERE number = ?", (number,))
            self._connection.execute("DELETE FROM notes WHERE id = ?", (video_id,))

    def rename_video(self, video_id: str, entry: VideoEntry, stamp: str) -> None:
        """Give a video the id, class and group of an entry, in one transaction; its pictures stay."""
        with self.transaction():
            self._connection.execute(
                "UPDATE videos SET id = ?, class = ?, grp = ? WHERE id = ?",
                (entry.id, entry.class_name, entry.group, video_id),
            )
            self._connection.execute("UPDATE OR REPLACE notes SET id = ? WHERE id = ?", (entry.id, video_id))
            self._connection.execute("DELETE FROM sources WHERE id = ?", (video_id,))
            self.set_stamp(entry.id, stamp)

    def shrink(self) -> None:
        """Give the space of removed videos back to the disk."""
        self._connection.execute("VACUUM")

    def set_class(self, video_id: str, class_name: str, group: str) -> None:
        """Change the class and the group of a video."""
        self._connection.execute("UPDATE videos SET class = ?, grp = ? WHERE id = ?", (class_name, group, video_id))

    def set_stamp(self, video_id: str, stamp: str) -> None:
        """Record the stamp of a video's source."""
        self._connection.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", (video_id, stamp))

    def check(self) -> None:
        """Make sure that the rows are those that were written. Raises `DataError`."""
        for table in CHECKSUMMED:
            check_rows(self._connection, table, self._path)

    def video(self, video_id: str) -> RecordedVideo | None:
        """Return the shard's record of a video; None if it has no such video."""
        row = self._connection.execute("SELECT status, reason, frames FROM videos WHERE id = ?", (video_id,)).fetchone()
        return RecordedVideo(*row) if row else None

    def videos(self) -> dict[str, RecordedVideo]:
        """Return the shard's record of each video, by id."""
        rows = self._connection.execute("SELECT id, status, reason, frames FROM videos")
        return {video_id: RecordedVideo(*row) for video_id, *row in rows}

    def sources(self) -> list[SourceRecord]:
        """Return the source of each video."""
        rows = self._connection.execute(
            "SELECT id, status, class, grp, source_hash, stamp FROM videos LEFT JOIN sources USING (id)"
        )
        return [SourceRecord(*row) for row in rows]

    def remove_stale_journal(self) -> None:
        """Make SQLite replace the journal of a writer that was killed before it changed the shard.

        SQLite itself ignores such a journal, but to readers it would look as if it were still needed.
        """
        self._connection.execute("PRAGMA user_version = 0")  # any write would do

    def _begin_totals(self) -> None:
        """Add totals to a new shard or one of an older version, and a column of picture checksums if missing."""
        with self.transaction():
            self._connection.execute(TOTALS)
            if all(row[1] != "crc" for row in self._connection.execute("PRAGMA table_info(pictures)")):
                self._connection.execute("ALTER TABLE pictures ADD COLUMN crc INTEGER")
            for table, columns in CHECKSUMMED.items():
                rows = self._connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
                total = table, len(rows), sum(row_checksum(*row) for row in rows)
                self._connection.execute("INSERT INTO totals VALUES (?, ?, ?)", total)

    def _keep_totals(self) -> None:
        """Let SQLite keep the totals up to date: triggers change them in the transaction that changes a row."""
        self._connection.create_function("row_checksum", -1, row_checksum, deterministic=True)
        self._connection.execute("PRAGMA recursive_triggers = ON")  # so that rows deleted by REPLACE count too
        for table, columns in CHECKSUMMED.items():
            old, new = (f"row_checksum({', '.join(f'{row}.{name}' for name in columns)})" for row in ("OLD", "NEW"))
            changes = {"INSERT": ("+ 1", f"+ {new}"), "DELETE": ("- 1", f"- {old}"), "UPDATE": ("", f"+ {new} - {old}")}
            for event, (number, checksum) in changes.items():
                update = f"UPDATE totals SET number = number {number}, checksum = checksum {checksum}"
                self._connection.execute(
                    f"CREATE TEMP TRIGGER {table}_{event.lower()} AFTER {event} ON main.{table} BEGIN "
                    f"{update} WHERE name = '{table}'; END"
                )

    def _insert(self, entry: VideoEntry, status: str, reason: str, stamp: str | None) -> int:
        """Add a row to the video table; return its number."""
        if stamp is not None:
            self.set_stamp(entry.id, stamp)
        cursor = self._connection.execute(
            "INSERT INTO videos (id, class, grp, status, reason) VALUES (?, ?, ?, ?, ?)",
            (entry.id, entry.class_name, entry.group, status, reason),
        )
        return int(cursor.lastrowid or 0)


def recover_videos(folder: Path) -> dict[str, RecordedVideo]:
    """Repair what killed writers left in a set's shards; return the record of every video, by id.

    Unfinished transactions are rolled back. A video may be in two shards: its first writer died, or was given up,
    between committing and reporting it, and another one prepared it again. One of the two is removed.

    Raises:
        DataError: A shard is damaged, or another process is writing it.
    """
    found: dict[str, RecordedVideo] = {}
    places: dict[str, Path] = {}
    for path in shard_paths(folder):
        with recovered_shard(path) as shard:
            for video_id, recorded in shard.videos().items():
                if video_id not in found:
                    found[video_id], places[video_id] = recorded, path
                # both have the same pictures, unless one only recorded that the other's writer died
                elif recorded.status == "ok" and found[video_id].status != "ok":
                    with recovered_shard(places[video_id]) as other:
                        other.remove_video(video_id)
                    found[video_id], places[video_id] = recorded, path
                else:
                    shard.remove_video(video_id)
    return found


@contextmanager
def recovered_shard(path: Path) -> Iterator[ShardWriter]:
    """Open a shard that no other process is writing; roll back a killed writer's unfinished transaction.

    Raises:
        DataError: It is damaged, it can't be written, or another process is writing it.
    """
    try:
        with ShardWriter(path, patience=5) as shard:
            with shard.transaction():  # fails while another process is still writing
                if journal_path(path).exists():
                    shard.remove_stale_journal()
            shard.check()
            yield shard
    except DAMAGE as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary result code
        if code == sqlite3.SQLITE_BUSY:
            raise DataError(f"{path}: another process is writing here; wait for it, or stop it") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise DataError(f"{path}: can't be written: {error}") from error
        raise describe_damage(path, error) from error
