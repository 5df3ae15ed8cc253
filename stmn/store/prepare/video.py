"""Turn one video file into one transaction of a shard. Runs in a worker process.

torch and the decoder are imported there: the process that only hands out the jobs starts seconds sooner without them.
"""

import dataclasses
import errno
import hashlib
import platform
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn import registry
from stmn.datasets.base import Pictures, VideoEntry
from stmn.errors import DataError, StmnError
from stmn.flow.estimator import flow_estimator
from stmn.runtime.workers import FatalJobError, describe_error
from stmn.store.format.header import HEADER, Preparation
from stmn.store.format.writer import FLOW, RGB, ShardWriter, VideoFacts, VideoWriter, shard_path
from stmn.store.prepare.sources import one_line, remember, skip, stamp

if TYPE_CHECKING:
    from stmn.flow.pairs import FlowFunction


@dataclass(frozen=True)
class PrepareJob:
    """A video to prepare, or, with a `failure`, to record as skipped."""

    entry: VideoEntry
    failure: str = ""


@dataclass(frozen=True)
class Prepared:
    """What became of a video: its frames, or why it was skipped."""

    entry: VideoEntry
    frames: int = 0
    reason: str = ""


@dataclass(frozen=True)
class PrepareWorker:
    """Sets a worker process up: opens its shard, loads the flow estimator and the data set.

    `machine` begins the names of its shards where several machines write.
    """

    folder: Path
    preparation: Preparation
    dataset: str
    root: Path
    dataset_options: dict[str, Any]
    machine: str = ""

    def on(self, machine: str) -> "PrepareWorker":
        """The same for the processes of one of several machines; no other has its name."""
        return dataclasses.replace(self, machine=f"{machine}-")

    def __call__(self, index: int) -> Callable[[PrepareJob], Prepared]:
        """The function that does a job in worker `index`."""
        if not (self.folder / HEADER).is_file():
            raise DataError(f"{self.folder}: not there on {platform.node()}; workers need it under the same path")
        import torch

        torch.set_num_threads(1)  # parallelism is over videos
        how = self.preparation
        dataset = registry.load("dataset", self.dataset)(self.root, **self.dataset_options)
        flow = None if dataset.has_pictures else flow_estimator(how.flow, how.flow_options)
        shard = ShardWriter(shard_path(self.folder, index, self.machine))

        def handle(job: PrepareJob) -> Prepared:
            try:
                if done := shard.finished(job.entry.id):  # by a worker that was gone before it could tell
                    return Prepared(job.entry, done.frames, done.reason)
                # taken before it is read: a source that changes meanwhile is looked at again the next time
                stamped = stamp(dataset.sources(job.entry))
                if job.failure:
                    skip(shard, job.entry, one_line(job.failure), stamped)
                    return Prepared(job.entry, reason=one_line(job.failure))
                try:
                    if dataset.has_pictures:
                        store = ready_pictures(dataset.pictures(job.entry), self.preparation)
                    else:
                        store = video_file(dataset.fetch(job.entry), self.preparation, flow)
                        stamped = stamp(dataset.sources(job.entry))  # `fetch` may have made it
                    with shard.video(job.entry) as writer:
                        remember(shard, job.entry.id, stamped)
                        writer.facts = store(writer)
                    return Prepared(job.entry, writer.facts.frames)
                except (StmnError, ValueError, RuntimeError, MemoryError) as error:
                    if disk := disk_error(error):
                        raise disk from error
                    reason = one_line(describe_error(error))
                    skip(shard, job.entry, reason, stamped)
                    return Prepared(job.entry, reason=reason)
            except sqlite3.OperationalError as error:
                raise FatalJobError(f"{self.folder}: can't be written: {error}") from error
            except OSError as error:
                if disk := disk_error(error):
                    raise FatalJobError(f"{disk.filename or self.folder}: can't be written: {disk.strerror}") from error
                raise

        return handle


def disk_error(error: BaseException | None) -> OSError | None:
    """The full or read-only disk behind an error, which is no fault of the video; None when it is something else."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return error
        error = error.__cause__
    return None


def ready_pictures(pictures: Pictures, how: Preparation) -> Callable[[VideoWriter], VideoFacts]:
    """What stores a video whose frames and flow are there already."""
    from stmn.store.prepare.pictures import import_pictures

    return lambda writer: import_pictures(pictures, writer, how)


def video_file(path: Path, how: Preparation, flow: Any) -> Callable[[VideoWriter], VideoFacts]:
    """What stores a video file."""
    return lambda writer: prepare_video(path, writer, how, flow)


def prepare_video(path: Path, writer: VideoWriter, how: Preparation, flow: "FlowFunction") -> VideoFacts:
    """Decode, resize, compute flow, quantise and store. Raises `DataError` when there are not two frames."""
    from stmn.flow.pairs import frames_and_flow
    from stmn.store.format.jpeg import encode_field, encode_frame
    from stmn.video.decode import decode, video_info

    source = video_info(path)
    frames = fields = 0
    height = width = 0
    for pictures, levels in frames_and_flow(decode(path, how.short_side), flow, how.bound, how.camera_motion):
        for picture in pictures:
            writer.add(RGB, frames, encode_frame(picture, how.quality))
            frames += 1
        for field in levels:
            writer.add(FLOW, fields, encode_field(field, how.quality))
            fields += 1
        height, width = pictures.shape[1:3]
    if frames == 0:
        raise DataError(f"{path}: holds no frames")
    if frames == 1:
        raise DataError(f"{path}: holds a single frame; flow needs two")
    if fields != frames - 1:
        raise DataError(f"{path}: {frames} frames but {fields} flow fields")
    with open(path, "rb") as file:
        source_hash = hashlib.file_digest(file, "sha256").hexdigest()
    return VideoFacts(
        frames, width, height, source.width, source.height, source.fps, source_hash, how.flow, how.bound
    )  # fmt: skip
