"""Classify one video by the options of `stmn predict`, window by window, until its end or Ctrl-C."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import torch
from torch import Tensor

from stmn.errors import DataError
from stmn.nets.outside import OutsideNetwork
from stmn.prediction.api import WINDOW_CHUNKS, Model
from stmn.prediction.class_map import ClassMap
from stmn.prediction.gate_map import find_gate_map
from stmn.prediction.options import PredictOptions
from stmn.prediction.overlay import write_overlay
from stmn.prediction.windows import Window, classify_spans, count_windows, read_frames, slide_window
from stmn.runtime.memory import free_large_blocks_at_once
from stmn.runtime.progress import Progress
from stmn.video.decode import iter_frames
from stmn.video.frame import Frame
from stmn.video.length import header_length
from stmn.video.source import Source, main_stream


@dataclass
class RunningMean:
    """The mean of the logits of several windows."""

    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    count: int = 0

    def add(self, window: Window) -> None:
        """Add a window."""
        self.total, self.count = self.total + window.outputs, self.count + 1

    @property
    def outputs(self) -> Tensor:
        """(outputs, classes) mean logits of the windows so far."""
        return self.total / self.count


def follow_windows(
    model: Model, video: Source, options: PredictOptions, progress: Progress, endless: bool
) -> Iterator[Window]:
    """Classify one window after another, and write the overlay, if it is asked for, at the same time.

    Args:
        model: The model.
        video: The video.
        options: What to do.
        progress: Where notices go.
        endless: The video is a camera or a stream. Like a pipe, it ends at the first Ctrl-C, with complete outputs.

    Raises:
        DataError: The video can't be read.
    """
    free_large_blocks_at_once()
    length, step = options.window_and_step
    protocol = model.protocol(options.chunks or WINDOW_CHUNKS, options.flips)
    fps = model.description.preparation.fps
    given = iter_frames(video, fps, options.allow_damage, lambda words: progress.say(f"{video.name}: {words}"))
    with _until_interrupted(video, given, progress, endless) as frames:
        if options.overlay is None:
            spans = slide_window(read_frames(model, frames), length, step)
            yield from classify_spans(model, spans, protocol, video.name, progress)
            return
        gate = find_gate_map(model, options.gate_part)
        if gate is None:
            what = f"is the {model.network.names[0]} stream alone: without gates"
            if isinstance(model.network, OutsideNetwork):
                what = "is an exported file, whose inside can't be seen:"
            progress.say(f"this model {what} the overlay has no gate map")
        if not model.reads_flow:
            progress.say("this model reads no flow, so the overlay shows none")
        explained = ClassMap(model, options.explain, options.gate_part) if options.explain else None
        yield from write_overlay(
            model, frames, video.name, options.overlay, gate, explained, length, step, protocol, progress,
            options.is_unknown,
        )  # fmt: skip


@contextmanager
def _until_interrupted(
    video: Source, given: Iterable[Frame], progress: Progress, endless: bool
) -> Iterator[Iterable[Frame]]:
    """The frames of a video; those of a camera, pipe or stream end at the first Ctrl-C. A second one interrupts."""
    if video.kind != "pipe" and not endless:
        yield given
        return
    interrupted = False

    def interrupt(number: int, _: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, before)

    def frames() -> Iterator[Frame]:
        count = 0
        try:
            for frame in given:
                if interrupted:
                    return
                yield frame
                count += 1
        except DataError as error:
            if not count or video.kind == "pipe":  # a pipe may carry a file, and that file is damaged
                raise
            progress.say(f"{error}; treated as the end of the stream")

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield frames()
    finally:
        signal.signal(signal.SIGINT, before)


def expected_windows(model: Model, video: Source, options: PredictOptions) -> int | None:
    """Count the windows that a file will have for a model, from its header; None if the header lacks the length.

    Raises:
        DataError: The file can't be read.
    """
    if video.kind != "file":
        return None
    with video.open() as container:
        announced = header_length(container)
        rate = float(main_stream(container).average_rate or 0)
    if not rate or not (announced.seconds or announced.frames):
        return None
    seconds = announced.seconds or announced.frames / rate
    return count_windows(seconds, model.description.preparation.fps or rate, *options.window_and_step)
