"""Is a prepared video still what its source is? Files are replaced, mended, or appear later.

Beside each video stands a stamp: sizes and times of change of the files it was made from. What differs in it is looked
at again; a file whose bytes are the same is not prepared again.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from stmn.datasets.base import Dataset, VideoEntry
from stmn.store.format.writer import ShardWriter, healed, shard_path, shard_paths

#: stands in a stamp for a file that is not there
MISSING = "-"


def stamp(paths: Iterable[Path]) -> str:
    """Size and time of change of each path, as text; `MISSING` for those that are not there."""
    parts = []
    for path in paths:
        try:
            status = path.stat()
        except (OSError, ValueError):
            parts.append(MISSING)
        else:
            parts.append(f"{status.st_size}:{status.st_mtime_ns}")
    return " ".join(parts)


def remember(shard: ShardWriter, video_id: str, stamped: str) -> None:
    """Record what a video was made from."""
    shard.connection.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", (video_id, stamped))


def skip(shard: ShardWriter, entry: VideoEntry, reason: str, stamped: str) -> None:
    """Record in one transaction that a video was skipped, and what it was then."""
    shard.connection.execute("BEGIN IMMEDIATE")
    try:
        remember(shard, entry.id, stamped)
        shard.skip(entry, reason)
        shard.connection.execute("COMMIT")
    except BaseException:
        if shard.connection.in_transaction:
            shard.connection.execute("ROLLBACK")
        raise


def refresh(
    folder: Path, dataset: Dataset, entries: Iterable[VideoEntry], retry_skipped: bool, say: Callable[[str], None]
) -> None:
    """Bring the store up to date with the data set, but for the videos that have to be read.

    Takes out of it what has to be done again, corrects classes and groups that the data set says anew, and records
    which videos can't be had.

    Done again are videos whose source has changed, skipped ones whose source has changed or appeared, and, with
    `retry_skipped`, all skipped ones. What was prepared stays when its source is gone.
    """
    known = {entry.id: entry for entry in entries}
    absent = {video_id: reason for video_id, entry in known.items() if (reason := dataset.lacks(entry))}
    for path in shard_paths(folder):
        with healed(path) as shard:
            rows = shard.connection.execute(
                "SELECT id, status, class, grp, source_hash, stamp FROM videos LEFT JOIN sources USING (id)"
            ).fetchall()
            for video_id, status, class_name, group, source_hash, stamped in rows:
                entry = known.get(video_id)
                if entry is None:
                    continue
                reason = absent.pop(video_id, "")
                now = stamp(dataset.sources(entry))
                again = now != stamped
                if status == "skipped":
                    again = (again or retry_skipped) and not reason
                elif again and MISSING in now.split():
                    again = False
                elif again and not dataset.has_pictures and hash_of(dataset.sources(entry)) == source_hash:
                    remember(shard, video_id, now)
                    again = False
                if again:
                    if status == "ok":
                        say(f"{video_id!r} has changed since it was prepared: doing it again")
                    shard.remove(video_id)
                elif (class_name, group) != (entry.class_name, entry.group):
                    shard.connection.execute(
                        "UPDATE videos SET class = ?, grp = ? WHERE id = ?", (entry.class_name, entry.group, video_id)
                    )
    if absent:
        with healed(shard_path(folder, 0)) as shard:
            shard.connection.execute("BEGIN IMMEDIATE")
            for video_id, reason in absent.items():
                remember(shard, video_id, stamp(dataset.sources(known[video_id])))
                shard.skip(known[video_id], one_line(reason))
                say(f"skipped {video_id!r}: {one_line(reason)}")
            shard.connection.execute("COMMIT")


def one_line(text: str) -> str:
    """Text for one row and one line, whatever bytes a file's name holds."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\n", "\\n")


def hash_of(paths: Iterable[Path]) -> str:
    """SHA-256 of the bytes of files, one after the other, in hex digits."""
    total = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()
