"""Process many videos on this machine or a cluster; a crash, a hang or an unreadable file costs only one video."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from stmn.errors import DataError, count_of
from stmn.runtime.workers import Setup
from stmn.stages.base import Context


class Worker(Protocol):
    """Sets up a worker process; `on` returns the same set-up for processes on another machine."""

    def __call__(self, index: int) -> Callable[[Any], Any]:
        """Return the function that does a job in worker `index`."""

    def on(self, machine: str) -> Setup:
        """Return the same set-up for processes on another machine, whose name is unique."""


class WorkOptions(Protocol):
    """The options that decide where the work is done."""

    @property
    def workers(self) -> int:
        """Worker processes; 0: one per core."""

    @property
    def cluster(self) -> str | None:
        """Address of a Dask scheduler."""

    @property
    def video_timeout(self) -> float:
        """Seconds allowed per video."""


def check_workers(options: WorkOptions, context: Context) -> None:
    """Refuse a cluster that can't be reached. Raises `StmnError`."""
    if options.cluster:
        from stmn.runtime.cluster import check_cluster

        check_cluster(options.cluster, context.progress.say)


def run_video_jobs(jobs: deque[Any], worker: Worker, options: WorkOptions, context: Context) -> Iterator[Any]:
    """Do a job for each video, and yield the results in the order in which the jobs end.

    A job has an `entry`, the video, and a `failure`. If its worker dies, hangs or can't record what went wrong, another
    worker gets the job with its `failure` set, and records it.

    Raises:
        DataError: The other worker could not record a failure either.
        FatalJobError: A job raised it, or processes can't start.
    """
    for outcome in _do_all(jobs, worker, options, context):
        if outcome.error and outcome.job.failure:
            raise DataError(f"{context.out}: can't record that {outcome.job.entry.id!r} was skipped: {outcome.error}")
        if outcome.error:
            jobs.append(replace(outcome.job, failure=outcome.error))
        else:
            yield outcome.result


def count_skipped(reasons: dict[str, str], folder: Path, allow_failures: int, done: str) -> int:
    """Count the skipped videos.

    Args:
        reasons: Video id -> why it was skipped; "" for the others.
        folder: Where the work was written.
        allow_failures: How many are accepted.
        done: The word for the others in the message: "prepared".

    Raises:
        DataError: There are more than `allow_failures`.
    """
    skipped = [video_id for video_id, reason in reasons.items() if reason]
    if len(skipped) > allow_failures:
        raise DataError(
            f"{folder}: {len(skipped):,} of {count_of(len(reasons), 'video')} "
            f"{'was' if len(skipped) == 1 else 'were'} skipped, the first: {skipped[0]!r}: "
            f"{reasons[skipped[0]]} (the others are {done}; --allow-failures {len(skipped)} accepts this, in a "
            f"recipe --set STAGE.allow_failures={len(skipped)}; --retry-skipped tries them again)"
        )
    return len(skipped)


class Rate:
    """Frames per second since the work began."""

    def __init__(self, frames: int = 0) -> None:
        self.frames = self._before = frames
        self._started = time.monotonic()

    def add(self, frames: int) -> dict[str, Any]:
        """Count more frames, and return the fields that a progress task shows."""
        self.frames += frames
        rate = (self.frames - self._before) / max(time.monotonic() - self._started, 1e-9)
        return {"frames": self.frames, "frames/s": rate}


def _do_all(jobs: deque[Any], worker: Worker, options: WorkOptions, context: Context) -> Iterator[Any]:
    """Do the jobs in processes of this machine or on a cluster, and yield what became of each."""
    if options.cluster:
        from stmn.runtime.cluster import run_on_cluster

        folder = str(context.out.resolve())
        return run_on_cluster(jobs, worker.on, options.cluster, folder, options.video_timeout, context.progress.say)
    from stmn.runtime.cores import count_cores
    from stmn.runtime.workers import run_jobs

    return run_jobs(jobs, worker, options.workers or count_cores(), options.video_timeout)
