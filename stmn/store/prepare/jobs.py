"""What a worker process is given and gives back, a video at a time: it is put into the worker's shard, or skipped."""

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
    """A video to work on, with its frames if they are known; or, with a `failure`, to record as skipped."""

    entry: VideoEntry
    frames: int = 0
    failure: str = ""


@dataclass(frozen=True)
class VideoResult:
    """What became of a video: its frames, and its tracks if it was tracked; or why it was skipped.

    A `note` says what is wrong with one that was kept.
    """

    entry: VideoEntry
    frames: int = 0
    tracks: int = 0
    reason: str = ""
    note: str = ""


def do_or_skip(
    job: VideoJob, shard: ShardWriter, work: Callable[[], VideoResult], stamp: Callable[[], str] = str
) -> VideoResult:
    """Do a job, or record in the shard why that failed.

    Args:
        job: The job.
        shard: Where its video goes.
        work: Puts the video into the shard in one transaction.
        stamp: Gives the stamp of the video's source, for one that is skipped; by default there is none, "".

    Raises:
        OSError: The disk is full or read-only.
        FatalJobError: A package is missing on this machine, or a device is gone, which is not the video's fault.
    """
    if done := shard.video(job.entry.id):  # its last worker died between the commit and its report
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
