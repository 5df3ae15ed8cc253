"""Prepare one video in one transaction of a shard. Runs in a worker process.

torch and the decoder are imported in the worker only: the process that hands out the jobs then starts seconds sooner.
"""

import dataclasses
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn import registry
from stmn.datasets.base import Dataset, VideoEntry
from stmn.errors import DataError, StmnError
from stmn.flow.estimator import load_estimator
from stmn.runtime.workers import describe_error
from stmn.store.format.header import HEADER, Preparation
from stmn.store.format.shard import FLOW, RGB, shard_path
from stmn.store.format.write import PictureWriter, ShardWriter, VideoFacts
from stmn.store.prepare.disk import find_disk_error, stop_on_full_disk
from stmn.store.prepare.sources import escape_line, hash_source, stamp_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stmn.flow.pairs import FlowFunction


@dataclass(frozen=True)
class PrepareJob:
    """A video to prepare or, with a `failure`, to record as skipped."""

    entry: VideoEntry
    failure: str = ""


@dataclass(frozen=True)
class PreparedVideo:
    """What became of a video: how many frames it has, or why it was skipped; a note on what is wrong with one kept."""

    entry: VideoEntry
    frames: int = 0
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class PrepareWorker:
    """Sets up a worker process: opens its shard, loads the flow estimator and the data set.

    Attributes:
        folder: The prepared set.
        preparation: How frames and flow are made.
        dataset: Name of the data set plugin.
        root: The data set's root.
        dataset_options: Options of the plugin.
        machine: Prefix of the shards' names where several machines write.
        allow_damage: The fraction of a video's frames that damage may cost.
    """

    folder: Path
    preparation: Preparation
    dataset: str
    root: Path
    dataset_options: dict[str, Any]
    machine: str = ""
    allow_damage: float = 0.05

    def on(self, machine: str) -> "PrepareWorker":
        """Return the same set-up for processes on another machine, whose name no other machine has."""
        return dataclasses.replace(self, machine=f"{machine}-")

    def __call__(self, index: int) -> Callable[[PrepareJob], PreparedVideo]:
        """Return the function that does a job in worker `index`.

        Raises:
            DataError: This machine doesn't see the set's folder.
        """
        if not (self.folder / HEADER).is_file():
            raise DataError(f"{self.folder}: not found on {platform.node()}; workers need it under the same path")
        import torch

        torch.set_num_threads(1)  # videos run in parallel instead
        how = self.preparation
        dataset: Dataset = registry.load("dataset", self.dataset)(self.root, **self.dataset_options)
        flow = None if dataset.has_pictures else load_estimator(how.flow, how.flow_options)
        shard = ShardWriter(shard_path(self.folder, index, self.machine))

        def handle(job: PrepareJob) -> PreparedVideo:
            with stop_on_full_disk(self.folder):
                return _do_job(job, shard, dataset, how, flow, self.allow_damage)

        return handle


def _do_job(
    job: PrepareJob, shard: ShardWriter, dataset: Dataset, how: Preparation, flow: "FlowFunction | None",
    allow_damage: float,
) -> PreparedVideo:  # fmt: skip
    """Put a video into the shard, or record why that failed. Raises `OSError` when the disk is full or read-only."""
    entry = job.entry
    if done := shard.video(entry.id):  # its last worker died between the commit and its report
        return PreparedVideo(entry, done.frames, done.reason)
    # taken before the source is read, so that a change meanwhile is noticed next time
    stamp = stamp_files(dataset.sources(entry))
    reason = job.failure
    if not reason:
        try:
            if dataset.has_pictures:
                from stmn.store.prepare.extracted import import_jpegs

                files = dataset.pictures(entry)
                with shard.add_video(entry, stamp) as writer:
                    writer.facts = import_jpegs(files, writer, how)
            else:
                assert flow is not None
                path = dataset.fetch(entry)
                stamp = stamp_files(dataset.sources(entry))  # `fetch` may have made the file
                with shard.add_video(entry, stamp) as writer:
                    writer.facts = _store_video(path, entry, writer, how, flow, allow_damage)
            return PreparedVideo(entry, writer.facts.frames, note=writer.note)
        except (StmnError, ValueError, RuntimeError, MemoryError) as error:
            if disk := find_disk_error(error):
                raise disk from error
            reason = describe_error(error)
    reason = escape_line(reason)
    with shard.transaction():
        shard.skip_video(entry, reason, stamp)
    return PreparedVideo(entry, reason=reason)


def _store_video(
    path: Path, entry: VideoEntry, writer: PictureWriter, how: Preparation, flow: "FlowFunction", allow_damage: float
) -> VideoFacts:
    """Decode, resize, compute flow, quantise and store. Raises `DataError` when there are fewer than two frames."""
    from stmn.flow.pairs import frames_and_flow
    from stmn.store.format.jpeg import encode_field, encode_frame
    from stmn.video.clock import measure_rate
    from stmn.video.decode import iter_frames
    from stmn.video.pictures import list_pictures

    notes: list[str] = []
    frames = fields = 0
    height = width = 0
    first = last = None

    def decode() -> "Iterator[NDArray[np.uint8]]":
        nonlocal first, last
        for last in iter_frames(path, how.fps, allow_damage, notes.append, until=entry.end):
            if last.seconds >= entry.start:
                first = first or last
                yield last.picture(how.short_side)

    for pictures, levels in frames_and_flow(decode(), flow, how.bound, how.camera_motion):
        for picture in pictures:
            writer.add(RGB, frames, encode_frame(picture, how.quality))
            frames += 1
        for field in levels:
            writer.add(FLOW, fields, encode_field(field, how.quality))
            fields += 1
        height, width = pictures.shape[1:3]
    where = f"{path}: its segment {entry.segment} s" if entry.segment else str(path)
    if frames == 0:
        raise DataError(f"{where}: holds no frames")
    if frames == 1:
        raise DataError(f"{where}: holds a single frame; flow needs two")
    if path.is_dir() and not entry.segment and frames != (count := len(list_pictures(path))):
        raise DataError(f"{path}: only {frames} of {count} pictures can be read")
    if fields != frames - 1:
        raise DataError(f"{path}: {frames} frames but {fields} flow fields")
    writer.note = escape_line("; ".join(notes))
    assert first is not None and last is not None
    rate = 0.0 if path.is_dir() else measure_rate(first, last, frames)  # pictures don't say how fast they follow
    content, (source_height, source_width) = hash_source([path], entry), first.size
    return VideoFacts(frames, width, height, source_width, source_height, rate, content, how.flow, how.bound)
