"""Many videos, one after another: one that fails costs itself alone."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from stmn.cli.console import say, say_error
from stmn.errors import count_of

if TYPE_CHECKING:
    from stmn.video.source import Source


def for_each(found: "Sequence[Source]", work: "Callable[[Source], None]", fail: "Callable[[Source, str], None]") -> int:
    """Do something with each video; return how many failed.

    Args:
        found: the videos.
        work: what to do.
        fail: called with a video that failed and the reason, after they are printed.

    Raises:
        UsageError: an option is wrong, which concerns all videos.
        Exception: something unexpected, if there is one video alone.
    """
    from stmn.errors import StmnError, UsageError
    from stmn.runtime.workers import describe_error

    failed = 0
    for video in found:
        try:
            work(video)
        except UsageError:
            raise
        except (StmnError, ValueError, RuntimeError, MemoryError) as error:
            if not isinstance(error, StmnError) and len(found) == 1:
                raise
            failed += 1
            say_error(describe_error(error))
            fail(video, describe_error(error))
    return failed


def end_with(failed: int, videos: int, allowed: int, outputs: Sequence[str], verb: str = "classified") -> None:
    """Say how many videos failed and what was written; end with exit code 1 if more failed than is allowed.

    Args:
        failed: videos that failed.
        videos: all of them.
        allowed: as many may fail.
        outputs: lines on what was written.
        verb: what can't be done with those that failed.
    """
    if failed and videos > 1:
        accept = f"; --allow-failures {failed} accepts this" if failed > allowed else ""
        say(f"{failed:,} of {count_of(videos, 'video')} can't be {verb}{accept}")
    for line in outputs:
        say(line)
    if failed > allowed:
        raise typer.Exit(1)
