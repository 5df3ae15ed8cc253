"""Read only what the chunks of a whole video need, so that memory doesn't grow with its length.

The video is decoded twice: once to count its frames, which decides where the chunks lie, and once to read the chunks'
frames and compute their flow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from stmn.evaluation.protocol import Protocol
from stmn.evaluation.video_input import VideoInput
from stmn.flow.pairs import frames_and_flow
from stmn.prediction.classifier import ChunkPlan, Classifier
from stmn.runtime.progress import Progress
from stmn.video.decode import iter_frames
from stmn.video.measure import Measure, measure_video
from stmn.video.source import Source, rereadable


@dataclass(frozen=True)
class WholeVideo:
    """The input from a video's chunks, how many frames the video has at the rate of the model, and how many seconds."""

    given: VideoInput
    frames: int
    seconds: float


def read_whole_video(
    model: Classifier, source: Source, protocol: Protocol, progress: Progress, allow_damage: float,
    measure: Measure = measure_video,
) -> WholeVideo:  # fmt: skip
    """Read the protocol's chunks of a video. A video that is too short for a flow stack is reported to `progress`.

    Raises:
        DataError: The video can't be read or has too few frames.
    """
    with rereadable(source) as given:
        length = measure(given, model.description.preparation.fps, allow_damage)
        for words in length.notes:
            progress.say(f"{given.name}: {words}")
        plan = model.plan_chunks(length.frames, protocol.chunks, given.name)
        if notice := model.padding_notice(plan.frame_count):
            progress.say(f"{given.name}: {notice}")
        chunks = _read_chunks(model, given, plan, allow_damage)
        return WholeVideo(model.make_input(plan, *chunks, protocol), length.frames, length.seconds)


def _read_chunks(
    model: Classifier, source: Source, plan: ChunkPlan, allow_damage: float
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Number -> (3, H, W) frame and number -> (2, H, W) flow levels: those that the plan needs, and few others."""
    how, fields_of = model.description.preparation, model.field_maker()
    frames: dict[int, Tensor] = {}
    levels: dict[int, Tensor] = {}
    stream, reached = iter_frames(source, how.fps, allow_damage), 0
    for run in _frame_runs(plan, model.reads_flow):
        part = islice(stream, run.start - reached, run.stop - reached)
        reached = run.stop
        at = field_at = run.start
        pictures = (frame.picture(how.short_side) for frame in part)
        for batch, fields in frames_and_flow(pictures, fields_of):
            frames |= {t: batch[t - at].permute(2, 0, 1) for t in plan.times if at <= t < at + len(batch)}
            levels |= {field_at + i: field for i, field in enumerate(fields)}
            at, field_at = at + len(batch), field_at + len(fields)
    return frames, levels


def _frame_runs(plan: ChunkPlan, flow: bool) -> Iterator[range]:
    """Runs of consecutive frames that must be converted; with `flow`, both frames of each field."""
    needed = set(plan.times)
    if flow:
        needed |= {i for field in plan.fields for i in (field, field + 1)}
    start = last = min(needed)
    for t in sorted(needed):
        if t > last + 1:
            yield range(start, last + 1)
            start = t
        last = t
    yield range(start, last + 1)
