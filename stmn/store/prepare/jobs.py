"""Jobs and results of worker processes: each video is put into the worker's shard, or skipped."""

from collections.abc import Callable
from dataclasses import dataclass

from stmn.datasets.base import VideoEntry
from stmn.errors import MissingExtra, StmnError
from stmn.runtime.workers import FatalJobError, describe_error
from stmn.store.format.write import ShardWriter
from stmn.store.prepare.disk import find_disk_error
from stmn.store.prepare.sources import escape_line


@dataclass(frozen=True)
class VideoJob:
    """A video to work on, with its number of frames if known; or, with a `failure`, to record as skipped."""

    entry: VideoEntry
    frames: int = 0
    failure: str = ""


@dataclass(frozen=True)
class VideoResult:
    """The result for a video: its numbers of frames and, if it was tracked, of tracks; or why it was skipped.

    A `note` says what is wrong with a video that was kept.
    """

    entry: VideoEntry
    frames: int = 0
    tracks: int = 0
    reason: str = ""
    note: str = ""


def do_or_skip(
    job: VideoJob, shard: ShardWriter, work: Callable[[], VideoResult], stamp: Callable[[], str] = str
) -> VideoResult:
    """Do a job, or record in the shard why it failed.

    Args:
        job: The job.
        shard: The shard for its video.
        work: Puts the video into the shard in one transaction.
        stamp: Returns the stamp of the source of a skipped video; by default "", for none.

    Raises:
        OSError: The disk is full or read-only.
        FatalJobError: The video is not at fault: a package is missing on this machine, or a device is gone.
    """
    if done := shard.video(job.entry.id):  # its last worker died between committing and reporting
        return VideoResult(job.entry, done.frames, reason=done.reason)
    reason = job.failure
    if not reason:
        try:
            return work()
        except FatalJobError:
            raise
        except MissingExtra as error:
            raise FatalJobError(str(error)) from error
        except (StmnError, ValueError, RuntimeError, MemoryError) as error:
            if disk := find_disk_error(error):
                raise disk from error
            reason = describe_error(error)
    reason = escape_line(reason)
    with shard.transaction():
        shard.skip_video(job.entry, reason, stamp())
    return VideoResult(job.entry, reason=reason)
