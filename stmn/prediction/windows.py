"""Windows that slide over a video of any length, without end perhaps. Memory holds one window."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmn.errors import DataError, UsageError
from stmn.evaluation.protocol import Protocol
from stmn.flow.pairs import frames_and_flow
from stmn.prediction.model import Scorer
from stmn.runtime.progress import Progress
from stmn.video.decode import Frame

#: seconds by which time stamps are rounded, at most
ROUNDED = 1e-3


@dataclass(frozen=True)
class Moment:
    """A frame on its way: `seconds` since the first, (3, H, W) levels, and (2, H, W) levels of the flow to the next.

    The last frame of a video has no flow. `view` is the (H, W, 3) picture that is shown of it, `gate` the (h, w) map of
    its gate, where somebody asked for them.
    """

    seconds: float
    rate: Fraction
    frame: Tensor
    levels: Tensor | None
    view: NDArray[np.uint8] | None = None
    gate: Tensor | None = None


@dataclass(frozen=True)
class Span:
    """The moments from `start` to `end`, seconds; `last` when it ends with the video."""

    start: float
    end: float
    moments: list[Moment]
    last: bool = False


@dataclass(frozen=True)
class Window:
    """What is said of the video from `start` to `end`, seconds: (classes,) scores before the soft-max."""

    start: float
    end: float
    scores: Tensor

    @property
    def middle(self) -> float:
        """Seconds."""
        return (self.start + self.end) / 2


def moments(
    model: Scorer, frames: Iterable[Frame], name: str, view: Callable[[Frame], NDArray[np.uint8]] | None = None
) -> Iterator[Moment]:
    """The frames of a video with their flow, as the model reads them. Raises `DataError` when their size changes."""
    how = model.description.preparation
    told: deque[tuple[float, Fraction, NDArray[np.uint8] | None]] = deque()

    def pictures() -> Iterator[NDArray[np.uint8]]:
        size: tuple[int, ...] = ()
        for number, frame in enumerate(frames):
            picture = frame.picture(how.short_side)
            if size and picture.shape != size:
                raise DataError(f"{name}: the frames change their size after {number} frames; cut the video there")
            size = picture.shape
            told.append((frame.seconds, frame.rate, view(frame) if view else None))
            yield picture

    waiting: deque[Tensor] = deque()
    for some, fields in frames_and_flow(pictures(), model.flow(), how.bound, how.camera_motion):
        waiting.extend(some.permute(0, 3, 1, 2))
        for levels in fields:
            seconds, rate, shown = told.popleft()
            yield Moment(seconds, rate, waiting.popleft(), levels, shown)
    for frame in waiting:  # the last one
        seconds, rate, shown = told.popleft()
        yield Moment(seconds, rate, frame, None, shown)


def slide(passing: Iterable[Moment], length: float, step: float) -> Iterator[Span]:
    """Spans of `length` seconds, each `step` seconds behind the one before, as soon as they are over.

    Where they leave a rest at the end, one more span ends with the video. A shorter video is one span.
    """
    held: deque[Moment] = deque()
    number, covered = 0, float("-inf")
    end = 0.0
    for moment in passing:
        while moment.seconds >= number * step + length - ROUNDED:
            start = number * step
            inside = [m for m in held if start - ROUNDED <= m.seconds < start + length - ROUNDED]
            if inside:
                yield Span(start, start + length, inside)
                covered = inside[-1].seconds
            number += 1
        held.append(moment)
        end = moment.seconds + float(1 / moment.rate)
        keep = min(number * step, end - length) - ROUNDED  # the last span reaches back from the end
        while held[0].seconds < keep:
            held.popleft()
    if held and held[-1].seconds > covered:
        start = max(end - length, 0.0)
        yield Span(start, end, [m for m in held if m.seconds >= start - ROUNDED], last=True)


def score_spans(
    model: Scorer, spans: Iterable[Span], protocol: Protocol, name: str, progress: Progress
) -> Iterator[Window]:
    """Classify each span as a video of its own. A shortage of frames is said once."""
    said = False
    for span in spans:
        inside = span.moments
        if len(inside) == 1 and model.reads_flow:
            if span.start > 0:  # where a video of varying rate stands still
                continue
            if not span.last:
                raise UsageError(
                    f"{name}: a window of {span.end:g} s holds one frame, and one frame has no motion; make it longer"
                )
        wanted = model.wanted(len(inside), protocol.chunks, name)
        if (words := model.shortage(wanted.count)) and not said:
            progress.say(f"{name}: {words}")
            said = True
        frames = {t: inside[t].frame for t in wanted.times}
        levels = {i: m.levels for i, m in enumerate(inside) if m.levels is not None}
        outputs = model.outputs(model.pictures(wanted, frames, levels, protocol), protocol)
        yield Window(span.start, span.end, torch.stack(outputs).mean(dim=0))
