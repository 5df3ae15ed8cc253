"""Read a prepared data set: videos by id, pictures by time."""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from stmn.errors import DataError
from stmn.files import digest
from stmn.store.header import read_header
from stmn.store.writer import FLOW, RGB, picture_key, shard_paths

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
        self.cache: OrderedDict[tuple[str, int, int], Tensor] = OrderedDict()
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

    def frames(self, video_id: str, times: Sequence[int]) -> Tensor:
        """RGB frames at `times`: (len(times), 3, H, W) uint8."""
        return self.pictures(video_id, RGB, times)

    def fields(self, video_id: str, times: Sequence[int]) -> Tensor:
        """Flow fields at `times` (field t leads from frame t to t + 1): (len(times), 2, H, W) uint8 levels."""
        return self.pictures(video_id, FLOW, times)

    def pictures(self, video_id: str, kind: int, times: Sequence[int]) -> Tensor:
        """Decode the pictures of a kind; each distinct time once, from memory where it is kept."""
        import torch

        from stmn.store.jpeg import decode_fields, decode_frames

        wanted = sorted(set(times))
        with self.lock:
            got = {t: self.cache[(video_id, kind, t)] for t in wanted if (video_id, kind, t) in self.cache}
            for t in got:
                self.cache.move_to_end((video_id, kind, t))
            missing = [t for t in wanted if t not in got]
            blobs = self.blobs(video_id, kind, missing)
        if missing:
            try:
                decoded = (decode_frames if kind == RGB else decode_fields)(blobs)
            except RuntimeError as error:
                raise DataError(f"{self.folder}: video '{video_id}': a {WHAT[kind]} is no readable JPEG") from error
            got |= dict(zip(missing, decoded, strict=True))
            self.keep(video_id, kind, {t: got[t] for t in missing})
        return torch.stack([got[t] for t in times])

    def blobs(self, video_id: str, kind: int, times: Sequence[int]) -> list[bytes]:
        """The stored JPEGs at sorted distinct `times`. Raises `DataError` when one is missing."""
        if not times:
            return []
        video = self.video(video_id)
        keys = [picture_key(video.number, kind, t) for t in times]
        marks = ",".join("?" * len(keys))
        rows = self.query(video.shard, f"SELECT jpeg FROM pictures WHERE key IN ({marks}) ORDER BY key", keys)
        if len(rows) != len(keys):
            raise DataError(f"{self.folder}: video '{video_id}' lacks a {WHAT[kind]} among {times[0]}..{times[-1]}")
        return [row[0] for row in rows]

    def keep(self, video_id: str, kind: int, pictures: dict[int, Tensor]) -> None:
        """Put decoded pictures in the cache and drop the oldest beyond its size."""
        if not self.cache_bytes:
            return
        with self.lock:
            for t, picture in pictures.items():
                self.cache[(video_id, kind, t)] = picture.clone()
                self.cached += picture.numel()
            while self.cached > self.cache_bytes and self.cache:
                self.cached -= self.cache.popitem(last=False)[1].numel()
