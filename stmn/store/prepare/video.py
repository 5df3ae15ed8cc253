"""Prepare one video in one transaction of a shard. Runs in a worker process.

torch and the decoder are imported only in the worker, so the process that hands out the jobs starts seconds sooner.
"""

import dataclasses
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn.datasets.base import Dataset, VideoEntry
from stmn.errors import DataError
from stmn.flow.backend import describe_flow
from stmn.flow.estimator import load_estimator
from stmn.registry.options import build
from stmn.runtime.workers import FatalJobError
from stmn.store.format.header import HEADER, Preparation
from stmn.store.format.shard import FLOW, RGB, shard_path
from stmn.store.format.write import PictureWriter, ShardWriter, VideoFacts
from stmn.store.prepare.disk import stop_on_full_disk
from stmn.store.prepare.jobs import VideoJob, VideoResult, do_or_skip
from stmn.store.prepare.sources import escape_line, hash_source, stamp_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stmn.flow.owner import Address
    from stmn.flow.pairs import FieldMaker


@dataclass(frozen=True)
class PrepareWorker:
    """Sets up a worker process: opens its shard, and loads the flow estimator and the data set.

    Attributes:
        folder: The prepared set.
        preparation: How frames and flow are made.
        dataset: Name of the data set plugin.
        root: The data set's root.
        dataset_options: Options of the plugin.
        machine: Prefix of the shards' names if several machines write.
        allow_damage: The largest fraction of a video's frames that may be lost to damage.
        devices: Devices on which a process of their own computes flow for all workers of a machine; empty: each worker
            computes it on its CPU.
        may_use_cpu: If such a process can't start, each worker computes flow on its CPU.
        owners: The addresses of these processes, once they are started.
    """

    folder: Path
    preparation: Preparation
    dataset: str
    root: Path
    dataset_options: dict[str, Any]
    machine: str = ""
    allow_damage: float = 0.05
    devices: tuple[str, ...] = ()
    may_use_cpu: bool = False
    owners: "tuple[Address, ...]" = ()

    @contextmanager
    def opened(self, say: Callable[[str], None]) -> "Iterator[PrepareWorker]":
        """Start the processes that compute flow, and end them with the block; yields a copy that uses them.

        Args:
            say: Called with a line for each process, which says what computes there; or why the CPU does.

        Raises:
            FatalJobError: A process can't start, or died in the block.
        """
        if not self.devices:
            yield self
            return
        from stmn.flow.owner import FlowWork, open_owners

        how = self.preparation
        work = FlowWork(how.flow, how.flow_options, how.bound, how.camera_motion)
        with ExitStack() as stack:
            try:
                addresses, described = stack.enter_context(open_owners(self.devices, work, spawned=bool(self.machine)))
            except FatalJobError as error:
                if not self.may_use_cpu:
                    raise
                addresses, described = [], [describe_flow(how.flow, "cpu")]
                say(str(error))
            for line in described:
                say(f"flow: {line}")
            yield dataclasses.replace(self, owners=tuple(addresses))

    def on(self, machine: str) -> "PrepareWorker":
        """Return a copy for processes on another machine, which must have a unique name."""
        return dataclasses.replace(self, machine=f"{machine}-")

    def __call__(self, index: int) -> Callable[[VideoJob], VideoResult]:
        """Return the function that does a job in worker `index`.

        Raises:
            DataError: This machine doesn't see the set's folder.
        """
        if not (self.folder / HEADER).is_file():
            raise DataError(f"{self.folder}: not found on {platform.node()}; workers need it under the same path")
        import torch

        torch.set_num_threads(1)  # videos are processed in parallel instead
        dataset: Dataset = build("dataset", self.dataset, self.dataset_options, self.root)
        fields = None if dataset.has_pictures else self._make_fields(index)
        shard = ShardWriter(shard_path(self.folder, index, self.machine))

        def handle(job: VideoJob) -> VideoResult:
            with stop_on_full_disk(self.folder):
                source = _Source(dataset, job.entry)
                return do_or_skip(job, shard, lambda: self._prepare(source, shard, fields), lambda: source.stamp)

        return handle

    def _make_fields(self, index: int) -> "FieldMaker":
        """Return the object that computes flow for worker `index`, here or in an owner process."""
        from stmn.flow.client import RemoteFields
        from stmn.flow.pairs import LocalFields

        if self.owners:
            owner = self.owners[index % len(self.owners)]
            return RemoteFields(owner.name, owner.device)
        how = self.preparation
        return LocalFields(load_estimator(how.flow, how.flow_options), how.bound, how.camera_motion)

    def _prepare(self, source: "_Source", shard: ShardWriter, fields: "FieldMaker | None") -> VideoResult:
        """Put a video into the shard. Raises `DataError` and other errors if that fails."""
        dataset, entry, how = source.dataset, source.entry, self.preparation
        if dataset.has_pictures:
            from stmn.store.prepare.extracted import import_jpegs

            files = dataset.pictures(entry)
            with shard.add_video(entry, source.stamp) as writer:
                writer.facts = import_jpegs(files, writer, how)
        else:
            assert fields is not None
            path = source.fetch()
            with shard.add_video(entry, source.stamp) as writer:
                writer.facts = _store_video(path, entry, writer, how, fields, self.allow_damage)
        return VideoResult(entry, writer.facts.frames, note=writer.note)


class _Source:
    """The source of a video, and its stamp.

    The stamp is taken before the source is read, so that a change in the meantime is noticed next time.
    """

    def __init__(self, dataset: Dataset, entry: VideoEntry) -> None:
        self.dataset, self.entry = dataset, entry
        self.stamp = stamp_files(dataset.sources(entry))

    def fetch(self) -> Path:
        """Return the video's file; it may be made here."""
        path = self.dataset.fetch(self.entry)
        self.stamp = stamp_files(self.dataset.sources(self.entry))
        return path


def _store_video(
    path: Path, entry: VideoEntry, writer: PictureWriter, how: Preparation, making: "FieldMaker", allow_damage: float
) -> VideoFacts:
    """Decode, resize, compute flow, quantise and store. Raises `DataError` if there are fewer than two frames."""
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

    for pictures, levels in frames_and_flow(decode(), making):
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
    rate = 0.0 if path.is_dir() else measure_rate(first, last, frames)  # pictures have no frame rate
    content, (source_height, source_width) = hash_source([path], entry), first.size
    return VideoFacts(frames, width, height, source_width, source_height, rate, content, how.flow, how.bound)
