"""The pictures of a whole video that a network is shown, and no others: memory does not grow with its length.

The video is read twice: to count its frames, which says where the chunks lie, and for the chunks' frames and flow.
"""

from collections.abc import Iterator
from itertools import islice

from torch import Tensor

from stmn.evaluation.inference import Pictures
from stmn.evaluation.protocol import Protocol
from stmn.flow.pairs import frames_and_flow
from stmn.prediction.model import Scorer, Wanted
from stmn.runtime.progress import Progress
from stmn.video.decode import count_frames, frames_of
from stmn.video.source import Source, rereadable


def whole_video(model: Scorer, source: Source, protocol: Protocol, progress: Progress) -> Pictures:
    """What the network is shown of a video. Raises `DataError` when it can't be read, or has too few frames."""
    with rereadable(source) as given:
        wanted = model.wanted(count_frames(given), protocol.chunks, given.name)
        if words := model.shortage(wanted.count):
            progress.say(f"{given.name}: {words}")
        return model.pictures(wanted, *looked_at(model, given, wanted), protocol)


def looked_at(model: Scorer, source: Source, wanted: Wanted) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """(3, H, W) frames and (2, H, W) flow levels by their numbers: what is wanted, and little more."""
    how, flow = model.description.preparation, model.flow()
    frames: dict[int, Tensor] = {}
    levels: dict[int, Tensor] = {}
    stream, reached = frames_of(source), 0
    for run in runs(wanted, model.reads_flow):
        here = islice(stream, run.start - reached, run.stop - reached)
        reached = run.stop
        at = field_at = run.start
        pictures = (frame.picture(how.short_side) for frame in here)
        for some, fields in frames_and_flow(pictures, flow, how.bound, how.camera_motion):
            frames |= {t: some[t - at].permute(2, 0, 1) for t in wanted.times if at <= t < at + len(some)}
            levels |= {field_at + i: field for i, field in enumerate(fields)}
            at, field_at = at + len(some), field_at + len(fields)
    return frames, levels


def runs(wanted: Wanted, flow: bool) -> Iterator[range]:
    """Frames that have to be decoded: with flow, both frames of each wanted field."""
    needed = set(wanted.times)
    if flow:
        needed |= {i for field in wanted.fields for i in (field, field + 1)}
    start = last = min(needed)
    for t in sorted(needed):
        if t > last + 1:
            yield range(start, last + 1)
            start = t
        last = t
    yield range(start, last + 1)
