"""Read a prepared data set: videos by id, pictures by time."""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.runtime.files import digest
from stmn.store.format.header import read_header
from stmn.store.format.writer import FLOW, RGB, picture_key, shard_paths

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = "id, class, grp, status, reason, frames, width, height, source_width, source_height, fps, source_hash, number"

WHAT = {RGB: "frame", FLOW: "flow field"}


@dataclass(frozen=True)
class StoredVideo:
    """A row of the video table. Sizes in pixels; `frames` frames have `frames - 1` flow fields."""

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
    """A prepared set, open for reading.

    `cache_bytes` of decoded pictures are kept in memory (the least recently used go first). Connections open at the
    first read of each process and are not inherited by forked or spawned workers.
    """

    def __init__(self, folder: Path, cache_bytes: int = 0) -> None:
        self.folder = folder
        self.header = read_header(folder)
        self.shards = shard_paths(folder)
        self.cache_bytes = cache_bytes
        self.reset()
        self.videos: dict[str, StoredVideo] = {}
        for shard in range(len(self.shards)):
            for row in self.query(shard, f"SELECT {COLUMNS} FROM videos ORDER BY id"):
                self.videos[row[0]] = StoredVideo(*(*row, shard))

    def reset(self) -> None:
        """Start with no connections and an empty cache."""
        self.connections: dict[int, sqlite3.Connection] = {}
        self.cache: OrderedDict[tuple[str, int, int], NDArray[np.uint8]] = OrderedDict()
        self.cached = 0
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("connections", "cache", "cached", "lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()

    def query(self, shard: int, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query on a shard. Raises `DataError` when the shard is damaged or half-written."""
        path = self.shards[shard]
        try:
            if shard not in self.connections:
                if path.with_name(path.name + "-journal").exists():
                    raise DataError(f"{path}: prepare is running or was interrupted; run prepare again to finish it")
                self.connections[shard] = sqlite3.connect(
                    f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
                )
            return self.connections[shard].execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise DataError(f"{path}: damaged shard: {error}") from error

    @property
    def fingerprint(self) -> str:
        """A hash of what the set holds: header, videos, sources."""
        rows = [
            [v.id, v.class_name, v.group, v.status, v.frames, v.source_hash] for _, v in sorted(self.videos.items())
        ]
        return digest([self.header.model_dump(mode="json"), rows])

    def video(self, video_id: str) -> StoredVideo:
        """A video's row. Raises `DataError` when it is not in the set or was skipped."""
        video = self.videos.get(video_id)
        if video is None:
            raise DataError(f"{self.folder}: no video '{video_id}'; run prepare again to add it")
        if video.status != "ok":
            raise DataError(f"{self.folder}: video '{video_id}' was skipped: {video.reason}")
        return video

    def part(self, split: str, part: str) -> list[StoredVideo]:
        """The readable videos of a part of a split, in the lists' order. Raises `DataError` when there is none."""
        ids = self.header.part(split, part)
        found = [video for i in ids if (video := self.videos.get(i)) and video.status == "ok"]
        if not found:
            raise DataError(f"{self.folder}: no readable {part} video of split {split} ({len(ids)} listed)")
        return found

    def frames(self, video_id: str, times: Sequence[int]) -> "Tensor":
        """RGB frames at `times`: (len(times), 3, H, W) uint8."""
        return self.together(video_id, RGB, times).permute(0, 3, 1, 2).contiguous()

    def fields(self, video_id: str, times: Sequence[int]) -> "Tensor":
        """Flow fields at `times` (field t leads from frame t to t + 1): (len(times), 2, H, W) uint8 levels."""
        return self.together(video_id, FLOW, times)

    def together(self, video_id: str, kind: int, times: Sequence[int]) -> "Tensor":
        """The pictures of a kind at `times`, in their order, each distinct one decoded once."""
        import torch

        pictures = np.empty((len(times), *picture_shape(self.video(video_id), kind)), np.uint8)
        where = np.asarray(times)
        for t, picture in self.pictures(video_id, kind, sorted(set(times))):
            pictures[where == t] = picture
        return torch.from_numpy(pictures)

    def pictures(self, video_id: str, kind: int, times: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Decode the pictures of a kind at sorted distinct `times`, one after the other.

        Yields (t, picture): frames (H, W, 3), flow fields (2, H, W), uint8, to be read, not written, and only until the
        next one: without a cache they all use the same memory, which stays in the processor's own.
        Raises `DataError` when a picture is missing, damaged or of another size than its video.
        """
        from stmn.store.format.jpeg import decode_field, decode_frame

        shape = picture_shape(self.video(video_id), kind)
        decode = decode_frame if kind == RGB else decode_field
        with self.lock:
            kept = {t: self.cache[key] for t in times if (key := (video_id, kind, t)) in self.cache}
            for t in kept:
                self.cache.move_to_end((video_id, kind, t))
            missing = [t for t in times if t not in kept]
            blobs = dict(zip(missing, self.blobs(video_id, kind, missing), strict=True))
        memory = None if self.cache_bytes else np.empty(prod(shape), np.uint8)
        for t in times:
            picture = kept.get(t)
            if picture is None:
                try:
                    picture = decode(blobs[t], memory)
                except RuntimeError as error:
                    raise DataError(f"{self.folder}: video '{video_id}': a {WHAT[kind]} is no readable JPEG") from error
                if picture.shape != shape:
                    raise DataError(
                        f"{self.folder}: video '{video_id}': {WHAT[kind]} {t} is {picture.shape}, not {shape}"
                    )
                self.keep(video_id, kind, t, picture)
            yield t, picture

    def blobs(self, video_id: str, kind: int, times: Sequence[int]) -> list[bytes]:
        """The stored JPEGs at sorted distinct `times`. Raises `DataError` when one is missing."""
        video, rows = self.video(video_id), []
        for first, last in runs(times):  # a run lies together on disk: one short statement, one walk
            keys = [picture_key(video.number, kind, t) for t in (first, last)]
            rows += self.query(video.shard, "SELECT jpeg FROM pictures WHERE key BETWEEN ? AND ? ORDER BY key", keys)
        if len(rows) != len(times):
            raise DataError(f"{self.folder}: video '{video_id}' lacks a {WHAT[kind]} among {times[0]}..{times[-1]}")
        return [row[0] for row in rows]

    def keep(self, video_id: str, kind: int, t: int, picture: NDArray[np.uint8]) -> None:
        """Put a decoded picture in the cache and drop the oldest beyond its size."""
        if not self.cache_bytes:
            return
        with self.lock:
            old = self.cache.pop((video_id, kind, t), None)  # another thread may have been at it too
            self.cache[(video_id, kind, t)] = picture
            self.cached += picture.nbytes - (old.nbytes if old is not None else 0)
            while self.cached > self.cache_bytes and self.cache:
                self.cached -= self.cache.popitem(last=False)[1].nbytes


def picture_shape(video: StoredVideo, kind: int) -> tuple[int, int, int]:
    """The shape of a video's decoded pictures of a kind: (H, W, 3) or (2, H, W)."""
    return (video.height, video.width, 3) if kind == RGB else (2, video.height, video.width)


def runs(times: Sequence[int]) -> list[tuple[int, int]]:
    """The first and last of each run of consecutive numbers in a sorted sequence."""
    found: list[tuple[int, int]] = []
    for t in times:
        if found and t == found[-1][1] + 1:
            found[-1] = (found[-1][0], t)
        else:
            found.append((t, t))
    return found
