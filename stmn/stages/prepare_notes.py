"""The notes of prepare: on a list, before anything is decoded, and on small or short videos."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stmn.stages.base import Context

if TYPE_CHECKING:
    from stmn.datasets.base import Dataset, VideoEntry
    from stmn.store.format.header import Header

#: videos whose headers are read to find out how large they are
_LOOKED_AT = 15
#: the most seconds to read a header
_LOOK_SECONDS = 10.0
#: a short side this many times that of the videos is worth a note
_LARGER = 1.25
#: default L of training
_STACK_LENGTH = 10


def print_list_notes(dataset: "Dataset", entries: "list[VideoEntry]", header: "Header", context: Context) -> None:
    """Print how the data set read its list, what looks wrong, and what it left out, also as an event per file."""
    from stmn.datasets.doubts import find_doubts
    from stmn.datasets.folds import describe_folds
    from stmn.datasets.scan import describe_left_out
    from stmn.store.prepare.sources import escape_line

    left_out = dataset.left_out()
    for item in left_out:
        context.progress.event(left_out=escape_line(str(item.path)), reason=item.reason)
    doubts = find_doubts(entries, header.splits, "mirror" in header.keeps and not header.mirror_pairs)
    splits = list(dataset.split_notes(replaced=header.folds is not None))
    if header.folds:
        splits.append(describe_folds(entries, header.folds.by))
    for note in filter(None, [describe_left_out(left_out), *dataset.notes(entries), *splits, *doubts]):
        context.progress.say(escape_line(note))


def find_small(entries: "list[VideoEntry]", short_side: int) -> Iterator[str]:
    """A line if most videos are smaller than the short side, judging by the headers of a few."""
    from stmn.runtime.bounded import BoundedCall
    from stmn.video.decode import probe_video

    some = entries[:: max(len(entries) // _LOOKED_AT, 1)][:_LOOKED_AT]
    with BoundedCall(probe_video, _LOOK_SECONDS) as look:
        infos = [info for entry in some if (info := look(entry.path))]  # others are skipped later, with the reason
    sizes = [(side, f"{info.width}x{info.height}") for info in infos if (side := min(info.width, info.height)) > 0]
    small = sorted(size for size in sizes if size[0] * _LARGER < short_side)
    if 2 * len(small) > len(sizes):
        side, example = small[len(small) // 2]
        yield (
            f"most videos are smaller than the short side, {short_side} pixels, such as {example}; enlarged they take "
            f"{(short_side / side) ** 2:.1f} times as long: --short-side {side} keeps their size"
        )


def print_short_videos(frames: list[tuple[str, int]], context: Context) -> None:
    """Print which videos, given as (id, frames), are too short for a flow stack of default length. They are kept."""
    short = [(video_id, count) for video_id, count in frames if 0 < count <= _STACK_LENGTH]
    if short:
        context.progress.say(
            f"{len(short)} of {len(frames)} videos are too short for a whole stack of {_STACK_LENGTH} flow fields, the "
            f"first: {short[0][0]!r} ({short[0][1]} frames); they are kept, their first and last field repeated"
        )
