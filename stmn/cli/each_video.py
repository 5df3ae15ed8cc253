"""Process many videos, one after another; one that fails doesn't stop the others."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from stmn.cli.console import say, say_error
from stmn.errors import count_of

if TYPE_CHECKING:
    from stmn.video.source import Source


def for_each(found: "Sequence[Source]", work: "Callable[[Source], None]", fail: "Callable[[Source, str], None]") -> int:
    """Process each video, and return how many failed.

    Args:
        found: the videos.
        work: called with each video.
        fail: called with a video that failed and the reason, after the reason is printed.

    Raises:
        UsageError: an option is wrong, which affects all videos.
        Exception: an unexpected error, if there is only one video.
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
    """Print how many videos failed and what was written; exit with 1 if more failed than allowed.

    Args:
        failed: number of videos that failed.
        videos: number of all videos.
        allowed: how many may fail.
        outputs: lines about what was written.
        verb: what could not be done with those that failed: "classified".
    """
    if failed and videos > 1:
        accept = f"; --allow-failures {failed} accepts this" if failed > allowed else ""
        say(f"{failed:,} of {count_of(videos, 'video')} can't be {verb}{accept}")
    for line in outputs:
        say(line)
    if failed > allowed:
        raise typer.Exit(1)
