"""The work of a worker process on a video: extract its descriptors, or encode them."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stmn.datasets.base import VideoEntry
from stmn.idt.codebook import load_codebook
from stmn.idt.fisher import FisherSums
from stmn.idt.shards import Facts, Sample, ShardReader, write_numbers
from stmn.idt.source import TrackSource, stack_descriptors
from stmn.runtime.files import digest
from stmn.store.format.shard import shard_path
from stmn.store.format.write import ShardWriter, VideoFacts
from stmn.store.prepare.disk import stop_on_full_disk
from stmn.store.prepare.jobs import VideoJob, VideoResult, do_or_skip


@dataclass(frozen=True)
class IdtWorker:
    """Sets up a worker process, which writes a shard of its own.

    Attributes:
        folder: The run's folder, with `shards/`.
        source: The source of tracks.
        quota: The most descriptors to keep per video; not used for encoding.
        codebook: The codebook to encode with; None: extract descriptors.
        kept: The folder with kept descriptors, for encoding.
        machine: Prefix of the shards' names if several machines write.
    """

    folder: Path
    source: TrackSource
    quota: int = 0
    codebook: Path | None = None
    kept: Path | None = None
    machine: str = ""

    def on(self, machine: str) -> "IdtWorker":
        """Return the same set-up for processes on another machine, whose name is unique."""
        return dataclasses.replace(self, machine=f"{machine}-")

    def __call__(self, index: int) -> Callable[[VideoJob], VideoResult]:
        """Return the function that does a job in worker `index`."""
        import torch

        torch.set_num_threads(1)  # videos run in parallel instead
        threadpool_limits(1)  # NumPy's matrix products too: threads that wait for each other cost five times the work
        _use_one_thread_in_opencv()
        shard = ShardWriter(shard_path(self.folder, index, self.machine))
        work = self._encode() if self.codebook else self._extract

        def handle(job: VideoJob) -> VideoResult:
            with stop_on_full_disk(self.folder):
                return do_or_skip(job, shard, lambda: _store(job, shard, work))

        return handle

    def _extract(self, entry: VideoEntry) -> tuple[NDArray[np.float16], Facts]:
        """Track a video, and sample the descriptors to keep."""
        sample = Sample(self.quota, int(digest(entry.id)[:8], 16))
        for tracks in self.source.read(entry):
            sample.add(stack_descriptors(tracks))
        rows = sample.finish()
        return rows, Facts(sample.seen, len(rows))

    def _encode(self) -> Callable[[VideoEntry], tuple[NDArray[np.float32], Facts]]:
        """Make the function that encodes a video: from kept descriptors if all were kept, else by tracking again."""
        assert self.codebook is not None and self.kept is not None
        codebook, reader = load_codebook(self.codebook), ShardReader(self.kept)

        def descriptors(entry: VideoEntry) -> Iterator[NDArray[np.floating]]:
            if reader.facts(entry.id).whole:
                yield from reader.blocks(entry.id)
            else:
                for tracks in self.source.read(entry):
                    yield stack_descriptors(tracks)

        def encode(entry: VideoEntry) -> tuple[NDArray[np.float32], Facts]:
            sums = FisherSums(codebook)
            for rows in descriptors(entry):
                sums.add(rows)
            return sums.finish()[None], Facts(sums.tracks, sums.tracks)

        return encode


def _store(
    job: VideoJob, shard: ShardWriter, work: Callable[[VideoEntry], tuple[NDArray[np.floating], Facts]]
) -> VideoResult:
    """Do a job, and write the video's rows and facts to the shard."""
    rows, facts = work(job.entry)
    with shard.add_video(job.entry) as writer:
        write_numbers(writer, rows, facts)
        writer.facts = VideoFacts(frames=job.frames)
    return VideoResult(job.entry, job.frames, facts.tracks)


def _use_one_thread_in_opencv() -> None:
    """Keep OpenCV from starting threads in every worker, if it is installed."""
    try:
        import cv2
    except ImportError:  # the first video reports it
        return
    cv2.setNumThreads(1)
