"""A shard: one SQLite file of videos and their pictures. Its tables, keys, checksums and file names."""

import sqlite3
import zlib
from pathlib import Path

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
CREATE TABLE IF NOT EXISTS pictures (key INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sources (id TEXT PRIMARY KEY, stamp TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, note TEXT NOT NULL);
"""

#: kinds of pictures, and what messages call them
RGB, FLOW = 0, 1
KIND_NAMES = {RGB: "frame", FLOW: "flow field"}


def picture_key(number: int, kind: int, t: int) -> int:
    """Return the primary key of a picture, so that a video's frames, then its flow fields, are neighbours on disk.

    Args:
        number: The video's number in its shard.
        kind: `RGB` or `FLOW`.
        t: Time in frames, from 0.
    """
    return (number << 33) | (kind << 32) | t


def picture_checksum(kind: int, t: int, jpeg: bytes) -> int:
    """Return the CRC-32 of a picture and its place in the video. A video's checksum is the sum over its pictures."""
    return zlib.crc32(jpeg, (kind << 31) | t)


def shard_path(folder: Path, worker: int, machine: str = "") -> Path:
    """Return the shard that a worker writes; `machine` keeps apart the shards of several machines."""
    return folder / "shards" / f"{machine}{worker:03d}.sqlite"


def shard_paths(folder: Path) -> list[Path]:
    """List the shards of a prepared set."""
    return sorted((folder / "shards").glob("*.sqlite"))


def journal_path(shard: Path) -> Path:
    """Return where SQLite keeps its rollback journal: what undoes an unfinished transaction."""
    return shard.with_name(f"{shard.name}-journal")


def open_read_only(shard: Path) -> sqlite3.Connection:
    """Open a shard for reading. Takes no lock and writes nothing, so any thread of the process may use it."""
    return sqlite3.connect(f"{shard.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
