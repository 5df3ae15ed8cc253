"""`stmn predict`: what is asked of a model, and what it says of each video, whole or window by window."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from stmn.errors import DataError, UsageError
from stmn.prediction.api import CHUNKS, WINDOW_CHUNKS, Model
from stmn.prediction.gate_map import GateMap, GateStage, gate_map
from stmn.prediction.overlay import overlaid
from stmn.prediction.windows import Window, moments, score_spans, slide
from stmn.runtime.progress import Progress
from stmn.video.decode import Frame, announced_length, frames_of
from stmn.video.source import Source

#: seconds of a window where nobody says, and the share of it from one window to the next
WINDOW, STEP = 2.0, 0.25


@dataclass(frozen=True)
class Asked:
    """What `stmn predict` was asked for; None is the default. `window` and `step` in seconds, `frames` in chunks."""

    frames: int | None = None
    flips: bool = True
    window: float | None = None
    step: float | None = None
    timeline: Path | None = None
    overlay: Path | None = None
    gate_stage: GateStage | None = None

    def check(self, videos: list[Source]) -> None:
        """Raises `UsageError` for what does not go together."""
        if self.gate_stage and not self.overlay:
            raise UsageError("--gate-stage chooses a map of the overlay: add --overlay OUT.mp4")
        for flag, path, ending in (("--overlay", self.overlay, ".mp4"), ("--timeline", self.timeline, ".csv")):
            if path is None:
                continue
            if path.suffix.lower() != ending:
                raise UsageError(f"{flag} {path}: its name must end in {ending}")
            if path.is_dir():
                raise UsageError(f"{flag} {path}: that is a folder; name a file")
            if any(v.kind == "file" and path.exists() and path.samefile(v.place) for v in videos):
                raise UsageError(f"{flag} {path}: that is the video itself, which would be overwritten")
        if self.overlay and len(videos) > 1:
            raise UsageError(f"--overlay {self.overlay}: one file for {len(videos)} videos; give one video at a time")

    @property
    def slides(self) -> bool:
        """True when windows are asked for, outright or by what is made of them."""
        return any((self.window, self.step, self.timeline, self.overlay))

    @property
    def shows_windows(self) -> bool:
        """True when windows are printed, since no file is made of them."""
        return self.slides and not (self.timeline or self.overlay)

    @property
    def lengths(self) -> tuple[float, float]:
        """Seconds of a window, and from one to the next."""
        window = self.window or WINDOW
        return window, self.step or window * STEP


@dataclass
class Mean:
    """The mean of windows' scores, before the soft-max."""

    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    count: int = 0

    def add(self, window: Window) -> None:
        """One more."""
        self.total, self.count = self.total + window.scores, self.count + 1

    @property
    def scores(self) -> Tensor:
        """(classes,)."""
        return self.total / self.count


def whole(model: Model, video: Source, asked: Asked, progress: Progress) -> Tensor:
    """(classes,) scores of a whole video before the soft-max."""
    return torch.stack(model.scores(video, asked.frames or CHUNKS, asked.flips, progress)).mean(dim=0)


def windows(model: Model, video: Source, asked: Asked, progress: Progress, endless: bool) -> Iterator[Window]:
    """What is said of each window, while the overlay is written if there is to be one.

    What is `endless`, and what comes through a pipe, ends in good order at the first Ctrl-C.
    """
    length, step = asked.lengths
    protocol = model.protocol(asked.frames or WINDOW_CHUNKS, asked.flips)
    with ending(video, progress, endless) as frames:
        if asked.overlay is None:
            spans = slide(moments(model, frames, video.name), length, step)
            yield from score_spans(model, spans, protocol, video.name, progress)
            return
        found = gate_map(model, asked.gate_stage)
        gate = found if isinstance(found, GateMap) else None
        if isinstance(found, str):
            progress.say(found)
        if not model.reads_flow:
            progress.say("this model reads no flow, and the overlay shows none")
        yield from overlaid(model, frames, video.name, asked.overlay, gate, length, step, protocol, progress)


@contextmanager
def ending(video: Source, progress: Progress, endless: bool) -> Iterator[Iterable[Frame]]:
    """The frames of a video; those of a camera, a pipe or a stream end at Ctrl-C, and a second one is as ever."""
    if video.kind != "pipe" and not endless:
        yield frames_of(video)
        return
    stopped: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        stopped.append(number)
        signal.signal(signal.SIGINT, before)

    def until_stopped() -> Iterator[Frame]:
        count = 0
        try:
            for frame in frames_of(video):
                if stopped:
                    return
                yield frame
                count += 1
        except DataError as error:
            if not count or video.kind == "pipe":  # which holds a file perhaps, and that would be broken
                raise
            progress.say(f"{error}; this is taken for the end")

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, stop)
    try:
        yield until_stopped()
    finally:
        signal.signal(signal.SIGINT, before)


def expected_windows(video: Source, asked: Asked) -> int | None:
    """How many windows a video will have, where that is known beforehand."""
    if video.kind != "file":
        return None
    with video.open() as container:
        announced = announced_length(container)
        rate = container.streams.video[0].average_rate
    seconds = announced.seconds or (announced.frames / float(rate) if rate else 0)
    length, step = asked.lengths
    return max(1, 1 + round((seconds - length) / step)) if seconds else None
