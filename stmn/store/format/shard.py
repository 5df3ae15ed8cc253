"""A shard: one SQLite file of videos and their pictures. Its tables, keys, checksums and file names."""

import sqlite3
import zlib
from pathlib import Path
from typing import Any

from stmn.errors import DataError

# Pictures never share a page, so small pages waste least. On real clips, pages of 512 bytes waste 1.5 % at short side
# 256, 3 % at 128 and 12 % at 40; pages of 8192 bytes waste 11, 12 and 14 %. Small pages add 0.1 ms to reading ten flow
# fields, of about 5 ms per chunk (docs/decisions/sqlite-pages.md).
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
CREATE TABLE IF NOT EXISTS pictures (key INTEGER PRIMARY KEY, jpeg BLOB NOT NULL, crc INTEGER);
CREATE TABLE IF NOT EXISTS sources (id TEXT PRIMARY KEY, stamp TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, note TEXT NOT NULL);
"""
#: row counts and checksums of other tables; shards of older versions don't have this table
TOTALS = "CREATE TABLE totals (name TEXT PRIMARY KEY, number INTEGER NOT NULL, checksum INTEGER NOT NULL)"

#: the tables whose number of rows and sum of row checksums are in `totals`, and their columns
CHECKSUMMED = {
    "videos": (
        "number", "id", "class", "grp", "status", "reason", "frames", "width", "height", "source_width",
        "source_height", "fps", "source_hash", "flow", "bound", "checksum",
    ),
    "notes": ("id", "note"),
}  # fmt: skip
#: errors that reading a damaged shard raises; SQLite may quote bytes that are not text
DAMAGE = (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError)
#: advice for a shard whose contents are not what was written
REMEDY = "delete that file and run the command that wrote it again"

#: kinds of pictures, and their names in messages
RGB, FLOW = 0, 1
KIND_NAMES = {RGB: "frame", FLOW: "flow field"}


def picture_key(number: int, kind: int, t: int) -> int:
    """Return the primary key of a picture: it places a video's frames, then its flow fields, together on disk.

    Args:
        number: The video's number in its shard.
        kind: `RGB` or `FLOW`.
        t: Time in frames, from 0.
    """
    return (number << 33) | (kind << 32) | t


def picture_checksum(kind: int, t: int, jpeg: bytes) -> int:
    """Return the CRC-32 of a picture and its place in the video. A video's checksum is the sum over its pictures."""
    return zlib.crc32(jpeg, (kind << 31) | t)


def row_checksum(*values: object) -> int:
    """Return the CRC-32 of a row of a checksummed table, from the values of its columns in order."""
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))


def check_rows(connection: sqlite3.Connection, table: str, shard: Path) -> list[tuple[Any, ...]]:
    """Read all rows of a checksummed table, and make sure that they are those that were written.

    Args:
        connection: Connection to the shard.
        table: `videos` or `notes`.
        shard: The shard's file, for the message.

    Returns:
        The rows, with the columns of `CHECKSUMMED`. Older shards have no totals, so their rows are not checked.

    Raises:
        DataError: A row is missing or has changed.
        sqlite3.DatabaseError: The file is damaged.
    """
    rows = connection.execute(f"SELECT {', '.join(CHECKSUMMED[table])} FROM {table}").fetchall()
    if has_totals(connection):
        written = connection.execute("SELECT number, checksum FROM totals WHERE name = ?", (table,)).fetchone()
        if written != (len(rows), sum(row_checksum(*row) for row in rows)):
            raise DataError(f"{shard}: is damaged: its {table} are not what was written; {REMEDY}")
    return rows


def describe_damage(shard: Path, error: Exception) -> DataError:
    """Return the error for a shard that SQLite can't read. SQLite's message may quote the shard's bytes."""
    words = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return DataError(f"{shard}: is damaged: {' '.join(words.split())[:200]}; {REMEDY}")


def has_totals(connection: sqlite3.Connection) -> bool:
    """Return whether a shard has totals of its rows; shards of older versions don't."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'totals'").fetchone() is not None


def shard_path(folder: Path, worker: int, machine: str = "") -> Path:
    """Return the shard that a worker writes; the prefix `machine` distinguishes the shards of several machines."""
    return folder / "shards" / f"{machine}{worker:03d}.sqlite"


def shard_paths(folder: Path) -> list[Path]:
    """List the shards of a prepared set."""
    return sorted((folder / "shards").glob("*.sqlite"))


def journal_path(shard: Path) -> Path:
    """Return the path of SQLite's rollback journal, which undoes an unfinished transaction."""
    return shard.with_name(f"{shard.name}-journal")


def open_read_only(shard: Path) -> sqlite3.Connection:
    """Open a shard for reading. Takes no lock and writes nothing, so any thread of the process may use it."""
    return sqlite3.connect(f"{shard.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
