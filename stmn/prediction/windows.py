"""Windows that slide over a video of any length, even an endless stream. Only one window is in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmn.errors import UsageError
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.video_input import VideoInput
from stmn.flow.pairs import frames_and_flow
from stmn.prediction.classifier import Classifier
from stmn.runtime.progress import Progress
from stmn.video.frame import Frame

#: containers round time stamps by at most this many seconds
_ROUNDING = 1e-3


@dataclass(frozen=True)
class TimedFrame:
    """A frame of a video, with the flow to the next one.

    Attributes:
        seconds: Time since the first frame.
        rate: Frames per second of the video.
        frame: (3, H, W) uint8 at the short side of the training data.
        flow: (2, H, W) uint8 levels of the flow to the next frame; None for the last frame.
        display: (H, W, 3) uint8, the frame as an overlay shows it, if there is one.
        gate_map: (h, w) map of the gate at this frame, if there is one.
        class_maps: (streams, h, w) class maps of this frame, if a class is explained.
    """

    seconds: float
    rate: Fraction
    frame: Tensor
    flow: Tensor | None
    display: NDArray[np.uint8] | None = None
    gate_map: Tensor | None = None
    class_maps: Tensor | None = None


@dataclass(frozen=True)
class Span:
    """The frames from `start` to `end`, in seconds; `last` if the span ends with the video."""

    start: float
    end: float
    frames: list[TimedFrame]
    last: bool = False


@dataclass(frozen=True)
class Window:
    """The prediction for the part of a video from `start` to `end`, in seconds, which has `frames` frames.

    `outputs` holds (outputs, classes) logits, a row for each output in use.
    """

    start: float
    end: float
    outputs: Tensor
    frames: int = 0

    @property
    def logits(self) -> Tensor:
        """(classes,): the mean of the outputs' logits."""
        return self.outputs.mean(dim=0)

    @property
    def middle(self) -> float:
        """The middle of the window, in seconds."""
        return (self.start + self.end) / 2


def read_frames(
    model: Classifier, frames: Iterable[Frame], display: Callable[[Frame], NDArray[np.uint8]] | None = None
) -> Iterator[TimedFrame]:
    """Yield the frames of a video with their flow, prepared like the model's training data.

    Args:
        model: Has the description of how frames and flow are prepared.
        frames: The decoded frames.
        display: Makes the picture of a frame for an overlay.
    """
    how = model.description.preparation
    decoded: deque[tuple[float, Fraction, NDArray[np.uint8] | None]] = deque()

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for frame in frames:
            picture = frame.picture(how.short_side)
            decoded.append((frame.seconds, frame.rate, display(frame) if display else None))
            yield picture

    waiting: deque[Tensor] = deque()
    for batch, fields in frames_and_flow(pictures(), model.field_maker()):
        waiting.extend(batch.permute(0, 3, 1, 2))
        for flow in fields:
            seconds, rate, shown = decoded.popleft()
            yield TimedFrame(seconds, rate, waiting.popleft(), flow, shown)
    for frame in waiting:  # the last one, which has no flow
        seconds, rate, shown = decoded.popleft()
        yield TimedFrame(seconds, rate, frame, None, shown)


def slide_window(frames: Iterable[TimedFrame], length: float, step: float) -> Iterator[Span]:
    """Yield spans of `length` seconds, one every `step` seconds, each as soon as it is complete.

    If these don't reach the end of the video, one more span ends with the video. A video shorter than `length` is one
    span.
    """
    held: deque[TimedFrame] = deque()
    number, covered = 0, float("-inf")
    end = 0.0
    for frame in frames:
        while frame.seconds >= number * step + length - _ROUNDING:
            start = number * step
            inside = [f for f in held if start - _ROUNDING <= f.seconds < start + length - _ROUNDING]
            if inside:
                yield Span(start, start + length, inside)
                covered = inside[-1].seconds
            number += 1
        held.append(frame)
        end = frame.seconds + float(1 / frame.rate)
        keep = min(number * step, end - length) - _ROUNDING  # the last span reaches back from the end
        while held[0].seconds < keep:
            held.popleft()
    if held and held[-1].seconds > covered:
        start = max(end - length, 0.0)
        yield Span(start, end, [f for f in held if f.seconds >= start - _ROUNDING], last=True)


def count_windows(seconds: float, rate: float, length: float, step: float) -> int:
    """Count the spans that `slide_window` makes of a video of `seconds` seconds at a constant `rate`."""
    last_frame = seconds - 1 / rate
    complete = floor((last_frame - length + _ROUNDING) / step) + 1  # windows that end before the last frame
    return max(complete, 0) + 1  # and one that ends with it


def classify_spans(
    model: Classifier, spans: Iterable[Span], protocol: Protocol, name: str, progress: Progress
) -> Iterator[Window]:
    """Classify each span as if it were a video. Raises as `read_spans` does."""
    for span, given in read_spans(model, spans, protocol, name, progress):
        logits = model.compute_logits(given, protocol, name)
        yield Window(span.start, span.end, torch.stack(logits), len(span.frames))


def read_spans(
    model: Classifier, spans: Iterable[Span], protocol: Protocol, name: str, progress: Progress
) -> Iterator[tuple[Span, VideoInput]]:
    """Yield each span with the network's input. A span too short for a flow stack is reported once.

    Raises:
        UsageError: The windows are so short that one holds only one frame, and the model reads flow.
    """
    reported = False
    for span in spans:
        frames = span.frames
        if len(frames) == 1 and model.reads_flow:
            if span.start > 0:  # a pause in a video of varying rate
                continue
            if not span.last:
                raise UsageError(
                    f"{name}: a window of {span.end:g} s holds one frame, and one frame has no motion; make it longer"
                )
        plan = model.plan_chunks(len(frames), protocol.chunks, name)
        if (notice := model.padding_notice(plan.frame_count)) and not reported:
            progress.say(f"{name}: {notice}")
            reported = True
        flow = {i: frame.flow for i, frame in enumerate(frames) if frame.flow is not None}
        yield span, model.make_input(plan, {t: frames[t].frame for t in plan.times}, flow, protocol)
