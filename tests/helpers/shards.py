"""What is in the shards of a prepared set, read with SQLite alone, and the processes that write them."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path


def contents(folder: Path) -> dict[str, tuple]:
    """Video id -> everything stored for it: its row, its frames, its flow fields. Checks that each video is there once."""
    found = {}
    for path in sorted((folder / "shards").glob("*.sqlite")):
        with sqlite3.connect(path) as shard:
            names = [row[1] for row in shard.execute("PRAGMA table_info(videos)")]
            owned = 0
            for values in shard.execute("SELECT * FROM videos").fetchall():
                row = dict(zip(names, values, strict=True))
                first = row.pop("number") << 33
                pictures = shard.execute(
                    "SELECT key - ?, jpeg FROM pictures WHERE key >= ? AND key < ? ORDER BY key",
                    (first, first, first + (1 << 33)),
                ).fetchall()
                assert row["id"] not in found, "a video is in the store once"
                found[row["id"]] = (row, pictures)
                owned += len(pictures)
            assert owned == shard.execute("SELECT count(*) FROM pictures").fetchone()[0], "no picture without a video"
        shard.close()
    return found


def change_shard(path: Path, statement: str, *values: object) -> None:
    """Run SQL on a shard, which no longer vouches for its rows then, as one of an older version."""
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.execute("DROP TABLE IF EXISTS totals")
    connection.commit()
    connection.close()


def places(folder: Path) -> dict[str, tuple[str, int]]:
    """Video id -> its shard and row; a video that is prepared again gets another row."""
    found = {}
    for path in sorted((folder / "shards").glob("*.sqlite")):
        shard = sqlite3.connect(path)
        if shard.execute("SELECT 1 FROM sqlite_master WHERE name = 'videos'").fetchone():
            for video_id, number in shard.execute("SELECT id, number FROM videos").fetchall():
                found[video_id] = (path.name, number)
        shard.close()
    return found


def size(folder: Path) -> int:
    """The bytes of all shards, without journals."""
    return sum(path.stat().st_size for path in folder.glob("shards/*.sqlite"))


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until a condition holds; other processes bring it about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def processes(mark: str) -> list[str]:
    """The command lines of the processes with a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found
