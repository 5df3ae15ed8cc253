"""Does a prepared video still match its source? Files are replaced, repaired, or arrive later.

The store keeps a stamp of each video: sizes and modification times of its source files. If a stamp has changed, the
files are read again; if their bytes are the same, the video is not prepared again.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from stmn.datasets.base import Dataset, VideoEntry
from stmn.runtime.files import open_regular
from stmn.store.format.shard import shard_path, shard_paths
from stmn.store.format.write import ShardWriter, SourceRecord, recovered_shard
from stmn.video.pictures import list_pictures

#: stands in a stamp for a file that does not exist
_MISSING = "-"


def stamp_files(paths: Iterable[Path]) -> str:
    """Return the size and the modification time of each file as text, and "-" for a file that does not exist."""
    parts = []
    for path in paths:
        try:
            status = path.stat()
        except (OSError, ValueError):
            parts.append(_MISSING)
        else:
            parts.append(f"{status.st_size}:{status.st_mtime_ns}")
    return " ".join(parts)


def hash_files(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the bytes of files, concatenated, in hex digits; for a folder, of its pictures."""
    total = hashlib.sha256()
    for file_path in (file for path in paths for file in (list_pictures(path) or [path])):
        with open_regular(file_path) as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def hash_source(paths: Iterable[Path], entry: VideoEntry) -> str:
    """Return `hash_files` of a video's files; for a segment, a hash that also covers its times."""
    whole = hash_files(paths)
    return hashlib.sha256(f"{whole} {entry.segment}".encode()).hexdigest() if entry.segment else whole


def refresh_videos(
    folder: Path, dataset: Dataset, entries: Iterable[VideoEntry], retry_skipped: bool, say: Callable[[str], None]
) -> None:
    """Bring a set's shards up to date with the data set, without preparing any video.

    Videos to prepare again are removed: those whose source has changed, skipped ones whose source has changed or
    appeared, and, with `retry_skipped`, all skipped ones. A prepared video stays if its source is gone. Classes and
    groups are corrected. Videos that the data set knows to be unavailable are recorded as skipped.

    Args:
        folder: The prepared set.
        dataset: Where its videos come from.
        entries: The data set's videos.
        retry_skipped: Remove every skipped video whose file exists.
        say: Called with each message for the user.

    Raises:
        DataError: A shard is damaged, or another process is writing it.
    """
    known = {entry.id: entry for entry in entries}
    absent = {video_id: reason for video_id, entry in known.items() if (reason := dataset.lacks(entry))}
    for path in shard_paths(folder):
        with recovered_shard(path) as shard:
            for record in shard.sources():
                entry = known.get(record.id)
                if entry is None:
                    continue
                available = not absent.pop(record.id, "")
                if record.status == "skipped":
                    again = available and (retry_skipped or stamp_files(dataset.sources(entry)) != record.stamp)
                else:
                    again = _has_changed(shard, record, dataset, entry)
                if again:
                    if record.status == "ok":
                        say(f"{record.id!r} has changed since it was prepared; preparing it again")
                    shard.remove_video(record.id)
                elif (record.class_name, record.group) != (entry.class_name, entry.group):
                    shard.set_class(record.id, entry.class_name, entry.group)
    if absent:
        with recovered_shard(shard_path(folder, 0)) as shard, shard.transaction():
            for video_id, reason in absent.items():
                shard.skip_video(known[video_id], escape_line(reason), stamp_files(dataset.sources(known[video_id])))
                say(f"skipped {video_id!r}: {escape_line(reason)}")


def move_videos(folder: Path, dataset: Dataset, entries: Iterable[VideoEntry]) -> list[tuple[str, str]]:
    """Rename prepared videos whose files, with the same bytes, the data set now lists under other names.

    Returns:
        The old and the new id of each.

    Raises:
        DataError: A shard is damaged, or another process is writing it.
    """
    new = {entry.id: entry for entry in entries}
    gone: list[tuple[Path, SourceRecord]] = []
    for path in shard_paths(folder):
        with recovered_shard(path) as shard:
            for record in shard.sources():
                if record.id in new:
                    del new[record.id]
                elif record.status == "ok" and record.stamp:
                    gone.append((path, record))
    if not gone or dataset.has_pictures:
        return []
    by_size: dict[str, list[VideoEntry]] = {}
    for entry in new.values():
        if not dataset.lacks(entry):
            by_size.setdefault(_sizes(stamp_files(dataset.sources(entry))), []).append(entry)
    moved = []
    for path, record in gone:
        for entry in by_size.get(_sizes(record.stamp or ""), []):
            if hash_source(dataset.sources(entry), entry) == record.source_hash:
                with recovered_shard(path) as shard:
                    shard.rename_video(record.id, entry, stamp_files(dataset.sources(entry)))
                by_size[_sizes(record.stamp or "")].remove(entry)
                moved.append((record.id, entry.id))
                break
    return moved


def drop_videos(folder: Path, ids: Iterable[str]) -> None:
    """Remove videos and free their disk space. Raises `DataError` as `move_videos` does."""
    wanted = set(ids)
    for path in shard_paths(folder):
        with recovered_shard(path) as shard:
            here = wanted & shard.videos().keys()
            for video_id in here:
                shard.remove_video(video_id)
            if here:
                shard.shrink()


def _sizes(stamp: str) -> str:
    """Return the sizes of files in a stamp; the size of a folder of pictures means nothing."""
    return " ".join(part.partition(":")[0] for part in stamp.split())


def escape_line(text: str) -> str:
    """Return text as one line of valid UTF-8, whatever bytes the file names in it contain."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\n", "\\n")


def _has_changed(shard: ShardWriter, record: SourceRecord, dataset: Dataset, entry: VideoEntry) -> bool:
    """True if the bytes of a prepared video's source have changed; if only its stamp has, the new one is recorded."""
    paths = dataset.sources(entry)
    stamp = stamp_files(paths)
    if stamp == record.stamp or _MISSING in stamp.split():
        return False
    if dataset.has_pictures or hash_source(paths, entry) != record.source_hash:
        return True
    shard.set_stamp(record.id, stamp)
    return False
