"""Read a prepared set: videos by id, pictures by time."""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.registry import for_fingerprint
from stmn.runtime.files import digest
from stmn.store.format.header import read_header
from stmn.store.format.shard import (
    CHECKSUMMED,
    DAMAGE,
    FLOW,
    KIND_NAMES,
    REMEDY,
    RGB,
    check_rows,
    describe_damage,
    journal_path,
    open_read_only,
    picture_checksum,
    picture_key,
    shard_paths,
)

if TYPE_CHECKING:
    from torch import Tensor

_COLUMNS = (
    "id", "class", "grp", "status", "reason", "frames", "width", "height", "source_width", "source_height", "fps",
    "source_hash", "number",
)  # fmt: skip


#: attributes that each process has of its own
_OWN = ("_connections", "_checksums", "_checked", "cache", "cached", "_lock")


@dataclass(frozen=True)
class StoredVideo:
    """A row of the video table. Sizes are in pixels; `frames` frames have `frames - 1` flow fields."""

    id: str
    class_name: str
    group: str
    status: str
    reason: str
    frames: int
    width: int
    height: int
    source_width: int
    source_height: int
    fps: float
    source_hash: str
    number: int
    shard: int


class Store:
    """A prepared set, open for reading. Use as a context manager.

    Each process opens its connections at its first read; forked and spawned workers do not inherit them.

    Args:
        folder: The set's folder.
        cache_bytes: Bytes of decoded pictures to keep in memory, the most recently used ones.

    Raises:
        DataError: The header or a shard is missing, damaged, or only half written.
    """

    def __init__(self, folder: Path, cache_bytes: int = 0) -> None:
        self.folder = folder
        self.header = read_header(folder)
        self.shards = shard_paths(folder)
        self.cache_bytes = cache_bytes
        self._reset()
        self.videos: dict[str, StoredVideo] = {}
        gone = set(self.header.gone)
        for shard in range(len(self.shards)):
            for values in sorted(self._rows(shard, "videos"), key=lambda row: str(row[1])):
                row = dict(zip(CHECKSUMMED["videos"], values, strict=True))
                if row["id"] not in gone:
                    self.videos[row["id"]] = StoredVideo(*(*(row[name] for name in _COLUMNS), shard))

    def _reset(self) -> None:
        """Start without connections and with an empty cache."""
        self._connections: dict[int, sqlite3.Connection] = {}
        self._checksums: dict[int, bool] = {}
        self._checked: set[str] = set()
        self.cache: OrderedDict[tuple[str, int, int], NDArray[np.uint8]] = OrderedDict()
        self.cached = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in _OWN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def query(self, shard: int, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a query on a shard and return all rows.

        Raises:
            DataError: The shard is damaged, or a `prepare` is writing it or was interrupted.
        """
        with self._connection(shard) as connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def _connection(self, shard: int) -> Iterator[sqlite3.Connection]:
        """Yield the connection to a shard; SQLite's errors in the block become `DataError`."""
        path = self.shards[shard]
        try:
            if shard not in self._connections:
                if journal_path(path).exists():
                    raise DataError(f"{path}: prepare is running or was interrupted; run prepare again to finish it")
                self._connections[shard] = open_read_only(path)
            yield self._connections[shard]
        except DAMAGE as error:
            raise describe_damage(path, error) from error

    def _rows(self, shard: int, table: str) -> list[tuple[Any, ...]]:
        """Return all rows of a table, checked against the shard's totals. Raises `DataError`."""
        with self._connection(shard) as connection:
            return check_rows(connection, table, self.shards[shard])

    @property
    def fingerprint(self) -> str:
        """A hash of the set's contents: header, videos, sources."""
        rows = [
            [v.id, v.class_name, v.group, v.status, v.frames, v.source_hash] for _, v in sorted(self.videos.items())
        ]
        header = self.header.model_dump(mode="json", exclude={"folds", "gone"})  # the splits themselves are included
        if not self.header.mirror_pairs:
            del header["mirror_pairs"]  # older sets have none
        return digest([header | {"dataset": for_fingerprint(self.header.dataset)}, rows])

    def notes(self) -> dict[str, str]:
        """Return the notes of `prepare` about videos that it did not skip, by id. Older sets have no notes."""
        found: dict[str, str] = {}
        for shard in range(len(self.shards)):
            if self.query(shard, "SELECT name FROM sqlite_master WHERE name = 'notes'"):
                found |= dict(self._rows(shard, "notes"))
        return dict(sorted(found.items()))

    def video(self, video_id: str) -> StoredVideo:
        """Return a video's row. Raises `DataError` if the video is not in the set or was skipped."""
        video = self.videos.get(video_id)
        if video is None:
            raise DataError(f"{self.folder}: no video '{video_id}'; run prepare again to add it")
        if video.status != "ok":
            raise DataError(f"{self.folder}: video '{video_id}' was skipped: {video.reason}")
        return video

    def part(self, split: str, part: str) -> list[StoredVideo]:
        """Return the readable videos of a part of a split, in the order of its list.

        Raises:
            DataError: There is no such split, or none of the listed videos is readable.
        """
        ids = self.header.part(split, part)
        found = [video for i in ids if (video := self.videos.get(i)) and video.status == "ok"]
        if not found:
            raise DataError(f"{self.folder}: split {split} has no readable {part} video ({len(ids)} listed)")
        return found

    def frames(self, video_id: str, times: Sequence[int]) -> "Tensor":
        """Read the RGB frames at `times`: (len(times), 3, H, W) uint8. Raises as `pictures` does."""
        return self._stack(video_id, RGB, times).permute(0, 3, 1, 2).contiguous()

    def fields(self, video_id: str, times: Sequence[int]) -> "Tensor":
        """Read the flow fields at `times`: (len(times), 2, H, W) uint8 levels. Raises as `pictures` does.

        Field t is the motion from frame t to frame t + 1.
        """
        return self._stack(video_id, FLOW, times)

    def pictures(self, video_id: str, kind: int, times: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Decode pictures one by one.

        Args:
            video_id: The video.
            kind: `RGB` or `FLOW`.
            times: Sorted and distinct.

        Yields:
            (t, picture). Frames are (H, W, 3), flow fields (2, H, W), uint8. Pictures are read-only and valid only
            until the next one: without a cache all share one memory block, which stays in the processor's cache.

        Raises:
            DataError: A picture is missing, damaged, or of another size than its video.
        """
        from stmn.store.format.jpeg import decode_field, decode_frame

        shape = _picture_shape(self.video(video_id), kind)
        decode = decode_frame if kind == RGB else decode_field
        with self._lock:
            kept = {t: self.cache[key] for t in times if (key := (video_id, kind, t)) in self.cache}
            for t in kept:
                self.cache.move_to_end((video_id, kind, t))
            missing = [t for t in times if t not in kept]
            jpegs = dict(zip(missing, self.jpegs(video_id, kind, missing), strict=True))
        memory = None if self.cache_bytes else np.empty(prod(shape), np.uint8)
        for t in times:
            picture = kept.get(t)
            if picture is None:
                try:
                    picture = decode(jpegs[t], memory)
                except RuntimeError as error:
                    why = f"{KIND_NAMES[kind]} {t} is not a readable JPEG"
                    raise self._damaged(self.video(video_id), why) from error
                if picture.shape != shape:
                    why = f"{KIND_NAMES[kind]} {t} is {picture.shape}, not {shape}"
                    raise self._damaged(self.video(video_id), why)
                self._cache_picture(video_id, kind, t, picture)
            yield t, picture

    def jpegs(self, video_id: str, kind: int, times: Sequence[int]) -> list[bytes]:
        """Return the stored JPEGs at sorted, distinct `times`. Raises `DataError` if one is missing or has changed."""
        video, rows = self.video(video_id), []
        crc = "crc" if self._has_checksums(video.shard) else "NULL"
        statement = f"SELECT jpeg, {crc} FROM pictures WHERE key BETWEEN ? AND ? ORDER BY key"
        for first, last in _ranges(times):  # a range is contiguous on disk: one short statement reads it
            rows += self.query(video.shard, statement, [picture_key(video.number, kind, t) for t in (first, last)])
        if len(rows) != len(times):
            lacks = f"lacks a {KIND_NAMES[kind]} among {times[0]}..{times[-1]}"
            if times[0] >= 0 and times[-1] < video.frames - (kind == FLOW):
                raise self._damaged(video, lacks)
            raise DataError(f"{self.folder}: video '{video_id}' {lacks}")
        for t, (jpeg, written) in zip(times, rows, strict=True):
            if written is None:
                self._check_video(video)
            elif not isinstance(jpeg, bytes) or picture_checksum(kind, t, jpeg) != written:
                raise self._changed(video, f"{KIND_NAMES[kind]} {t} is")
        return [row[0] for row in rows]

    def _has_checksums(self, shard: int) -> bool:
        """True if a shard has a checksum per picture; shards of older versions have only one per video."""
        if shard not in self._checksums:
            columns = self.query(shard, "PRAGMA table_info(pictures)")
            self._checksums[shard] = any(column[1] == "crc" for column in columns)
        return self._checksums[shard]

    def _check_video(self, video: StoredVideo) -> None:
        """Check once, for pictures without their own checksums, that a video's pictures are what `prepare` wrote."""
        if video.id in self._checked:
            return
        total, start = 0, picture_key(video.number, RGB, 0)
        end = picture_key(video.number + 1, RGB, 0)
        with self._connection(video.shard) as connection:
            statement = "SELECT key - ?, jpeg FROM pictures WHERE key >= ? AND key < ?"
            for place, jpeg in connection.execute(statement, (start, start, end)):
                total += picture_checksum(place >> 32, place & 0xFFFFFFFF, jpeg) if isinstance(jpeg, bytes) else 0
            [written] = connection.execute("SELECT checksum FROM videos WHERE number = ?", (video.number,)).fetchone()
        if total != written:
            raise self._changed(video, "its pictures are")
        self._checked.add(video.id)

    def _changed(self, video: StoredVideo, what: str) -> DataError:
        """Return the error for pictures that have changed."""
        return self._damaged(video, f"{what} not what prepare wrote (checksum)")

    def _damaged(self, video: StoredVideo, why: str) -> DataError:
        """Return the error for damage to a video in a shard."""
        return DataError(f"{self.shards[video.shard]}: is damaged: video '{video.id}': {why}; {REMEDY}")

    def _stack(self, video_id: str, kind: int, times: Sequence[int]) -> "Tensor":
        """Return the pictures at `times`, in their order; each distinct one is decoded once."""
        import torch

        pictures = np.empty((len(times), *_picture_shape(self.video(video_id), kind)), np.uint8)
        where = np.asarray(times)
        for t, picture in self.pictures(video_id, kind, sorted(set(times))):
            pictures[where == t] = picture
        return torch.from_numpy(pictures)

    def _cache_picture(self, video_id: str, kind: int, t: int, picture: NDArray[np.uint8]) -> None:
        """Put a decoded picture in the cache and drop the oldest beyond its size."""
        if not self.cache_bytes:
            return
        with self._lock:
            old = self.cache.pop((video_id, kind, t), None)  # another thread may have decoded it too
            self.cache[(video_id, kind, t)] = picture
            self.cached += picture.nbytes - (old.nbytes if old is not None else 0)
            while self.cached > self.cache_bytes and self.cache:
                self.cached -= self.cache.popitem(last=False)[1].nbytes


def _picture_shape(video: StoredVideo, kind: int) -> tuple[int, int, int]:
    """Return the shape of a video's decoded pictures of a kind: (H, W, 3) or (2, H, W)."""
    return (video.height, video.width, 3) if kind == RGB else (2, video.height, video.width)


def _ranges(times: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and last number of each consecutive run in a sorted sequence."""
    found: list[tuple[int, int]] = []
    for t in times:
        if found and t == found[-1][1] + 1:
            found[-1] = (found[-1][0], t)
        else:
            found.append((t, t))
    return found
