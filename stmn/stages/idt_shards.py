"""Fill the shards of a step of improved dense trajectories, video by video, and resume where it was interrupted."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stmn.errors import DataError
from stmn.options.idt import IdtExtractOptions
from stmn.stages.base import Context
from stmn.stages.video_jobs import Rate, count_skipped, run_video_jobs

if TYPE_CHECKING:
    from stmn.idt.work import IdtWorker
    from stmn.store.prepare.jobs import VideoJob


def fill_shards(
    jobs: "Sequence[VideoJob]", worker: "IdtWorker", options: IdtExtractOptions, context: Context, doing: str, done: str
) -> int:
    """Process each video that is not in the shards of `context.out` yet.

    Args:
        jobs: One per video.
        worker: Sets up the processes that do them.
        options: Say how many workers there are, and how many videos may fail.
        context: The context of the stage.
        doing: The name of the work for the display: "tracking".
        done: The word for finished videos in messages: "tracked".

    Returns:
        How many videos were skipped.

    Raises:
        DataError: More were skipped than `allow_failures`.
    """
    from stmn.store.format.shard import shard_paths
    from stmn.store.format.write import recover_videos, recovered_shard

    folder = context.out
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    recover_videos(folder)  # repairs what a killed writer left
    if options.retry_skipped:
        for path in shard_paths(folder):
            with recovered_shard(path) as shard:
                for video_id, video in shard.videos().items():
                    if video.status == "skipped":
                        shard.remove_video(video_id)
    finished = recover_videos(folder)
    missing = [job for job in jobs if job.entry.id not in finished]
    found = [finished[job.entry.id] for job in jobs if job.entry.id in finished]
    skipped, rate, tracks = sum(video.status == "skipped" for video in found), Rate(sum(v.frames for v in found)), 0
    with context.progress.task(doing, len(jobs), "videos", done=len(jobs) - len(missing)) as task:
        for result in run_video_jobs(deque(missing), worker, options, context):
            if result.reason:
                skipped += 1
                context.progress.say(f"skipped {result.entry.id!r}: {result.reason}")
            tracks += result.tracks
            shown = rate.add(result.frames) | {"tracks": tracks, "skipped": skipped}
            context.progress.event(
                video=result.entry.id, status="skipped" if result.reason else "ok", tracks=result.tracks,
                reason=result.reason,
            )  # fmt: skip
            task.advance(1, **shown)
    finished = recover_videos(folder)
    lost = [job.entry.id for job in jobs if job.entry.id not in finished]
    if lost:
        raise DataError(f"{folder}: {len(lost)} videos are in no shard, the first is {lost[0]!r}; run it again")
    reasons = {job.entry.id: finished[job.entry.id].reason for job in jobs}
    return count_skipped(reasons, folder, options.allow_failures, done)
