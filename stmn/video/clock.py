"""When the frames of a video are shown: plausible time stamps, and resampling to another rate."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import av

from stmn.video.frame import Frame, Painter

#: seconds between two frames above which a time stamp counts as damaged
_LONGEST_PAUSE = 60
#: the rate in the header is used if the time stamps agree with it within this fraction
_ROUNDED_RATE = 0.05
#: containers round time stamps by at most this many seconds
_ROUNDING = 1e-3


def time_frames(frames: Iterable[av.VideoFrame], rate: Fraction, painter: Painter) -> Iterator[Frame]:
    """Yield the frames with their time in seconds since the first.

    The time is the frame's time stamp, unless that is missing or damaged: not later than the previous frame, or more
    than a minute later. Then it is 1 / `rate` after the previous frame.
    """
    start: float | None = None  # the time stamp of the first frame, if it had one
    step = float(1 / rate)
    seconds = -step
    for frame in frames:
        if start is None and frame.time is not None:
            start = frame.time - (seconds + step)
        shown = None if frame.time is None or start is None else frame.time - start
        if shown is None or not seconds < shown < seconds + _LONGEST_PAUSE:
            shown = seconds + step
        seconds = shown
        yield Frame(frame, seconds, rate, painter)


def measure_rate(first: Frame, last: Frame, frames: int) -> float:
    """Return the frames per second from the first to the last of `frames` frames.

    It is the rate in the header, unless the time stamps differ from it by more than a twentieth.
    """
    stated, seconds = float(last.rate), last.seconds - first.seconds
    measured = (frames - 1) / seconds if seconds > 0 else stated
    return stated if abs(measured - stated) <= _ROUNDED_RATE * stated else measured


def resample(frames: Iterable[Frame], fps: Fraction) -> Iterator[Frame]:
    """Yield `fps` frames per second: for each time, the frame shown nearest to it.

    The video keeps its length: the last frame lasts 1 / rate of the video.
    """
    held: Frame | None = None
    number = 0
    for frame in frames:
        while held is not None and number / fps < (held.seconds + frame.seconds) / 2 - _ROUNDING:
            yield replace(held, seconds=float(number / fps), rate=fps)
            number += 1
        held = frame
    while held is not None and number / fps < held.seconds + 1 / held.rate - _ROUNDING:
        yield replace(held, seconds=float(number / fps), rate=fps)
        number += 1
