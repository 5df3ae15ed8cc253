"""Frames of a video, one after the other, at a given short side."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.video.source import Source, reason, source

#: frames a second of a video that does not say
USUAL_RATE = Fraction(25)


@dataclass(frozen=True)
class VideoInfo:
    """What the container says: size in pixels before any rotation, frames a second (0 when unknown)."""

    width: int
    height: int
    fps: float


@dataclass(frozen=True)
class Frame:
    """A decoded frame: `seconds` since the first one; a picture is made of it when it is asked for.

    `rate` is that of the video, frames a second.
    """

    decoded: av.VideoFrame
    seconds: float
    rate: Fraction

    @property
    def turns(self) -> int:
        """Quarter turns, anticlockwise, that set the frame upright."""
        return round(getattr(self.decoded, "rotation", 0) / 90) % 4

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, upright."""
        height, width = self.decoded.height, self.decoded.width
        return (width, height) if self.turns % 2 else (height, width)

    def picture(self, short_side: int | None = None) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8, upright, the short side at `short_side` pixels; None keeps the size."""
        width, height = scaled_size(self.decoded.width, self.decoded.height, short_side)
        picture = (
            self.decoded.reformat(width, height, format="rgb24", interpolation="BICUBIC")
            .to_ndarray()
            .astype(np.uint8, copy=False)
        )
        return np.ascontiguousarray(np.rot90(picture, self.turns)) if self.turns else picture


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """(width, height) with the short side at `short_side`, aspect kept; None keeps the size."""
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def open_video(video: Path | str | Source) -> InputContainer:
    """Open a video stream that can be decoded. Raises `DataError` naming the video and FFmpeg's reason."""
    return (video if isinstance(video, Source) else source(video)).open()


def video_info(path: Path | str) -> VideoInfo:
    """Size and rate of a video without decoding it."""
    with open_video(path) as container:
        stream = container.streams.video[0]
        return VideoInfo(stream.codec_context.width, stream.codec_context.height, float(stream.average_rate or 0))


def decode_video(path: Path | str, short_side: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames, (H, W, 3) RGB uint8, upright, the short side at `short_side` pixels.

    Memory holds one frame at a time. Raises as `frames_of` does.
    """
    for frame in frames_of(path):
        yield frame.picture(short_side)


def frames_of(video: Path | str | Source) -> Iterator[Frame]:
    """Yield the frames of a video in order.

    A video that breaks off in the middle raises `DataError` at that place, after the frames before it, also where only
    its header tells: when there are fewer frames than it announces.
    """
    given = video if isinstance(video, Source) else source(video)
    with given.open() as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # parallelism is over videos; decoder threads deadlock with forked workers
        stream.codec_context.thread_count = 1
        rate = stream.average_rate or stream.guessed_rate or USUAL_RATE
        even = container.format.name == "avi"
        count = 0
        announced = announced_length(container)
        first = last = 0.0
        seconds = -float(1 / rate)
        try:
            for frame in decoded(container, given.kind == "address"):
                first, last = (first, end_of(frame)) if count else (frame.time or 0.0, end_of(frame))
                # AVI has no time stamps; what FFmpeg makes up jumps where frames are out of order
                seconds = float(count / rate) if even else clock(frame, first, seconds, float(1 / rate))
                yield Frame(frame, seconds, rate)
                count += 1
        except (FFmpegError, ValueError) as error:
            raise DataError(f"{given.name}: decoding failed after {count} frames: {reason(error)}") from error
        if words := broken_off(announced, count, last - first):
            raise DataError(f"{given.name}: {words}")


def decoded(container: InputContainer, streamed: bool) -> Iterator[av.VideoFrame]:
    """What FFmpeg decodes; of what is streamed and breaks off, also the last frames, which the decoder still holds."""
    stream = container.streams.video[0]
    try:
        yield from container.decode(stream)
    except FFmpegError:
        if streamed:
            yield from stream.codec_context.decode(None)
        raise


def clock(frame: av.VideoFrame, first: float, previous: float, usual: float) -> float:
    """When a frame is shown, seconds since the first.

    Where its time stamp is none, or damaged (not behind the previous frame's, or minutes behind it), the usual time
    after the previous frame.
    """
    seconds = previous + usual if frame.time is None else frame.time - first
    return seconds if previous < seconds < previous + 60 else previous + usual


def count_frames(video: Path | str | Source) -> int:
    """How many frames a video has, by decoding it. Raises as `frames_of` does."""
    return sum(1 for _ in frames_of(video))


@dataclass(frozen=True)
class Announced:
    """How long a container says that its video is: frames and seconds, 0 where it does not say."""

    frames: int
    seconds: float


def announced_length(container: InputContainer) -> Announced:
    """What the header says of the first video stream."""
    stream = container.streams.video[0]
    seconds = float((stream.duration or 0) * (stream.time_base or 0))
    if "mp4" in container.format.name.split(","):
        # an edit list may show a part of what is counted; FFmpeg takes it into account in the duration
        return Announced(0, seconds)
    if stream.frames or seconds:
        return Announced(stream.frames, seconds)
    # Matroska's
    if match := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "").strip()):
        return Announced(0, 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]))
    if len(container.streams) == 1:  # else it may be the sound that lasts as long
        return Announced(0, (container.duration or 0) / av.time_base)
    return Announced(0, 0.0)


def end_of(frame: av.VideoFrame) -> float:
    """When a frame ceases to be shown, seconds."""
    return float((frame.time or 0.0) + (frame.duration or 0) * (frame.time_base or 0))


def broken_off(announced: Announced, frames: int, seconds: float) -> str:
    """Words for a video that is much shorter than announced; empty when it is as long, or almost.

    Published data sets are full of files that announce one or two frames too many, and clocks are rounded.
    """
    if frames and announced.frames - frames > max(3, 0.03 * announced.frames):
        return f"breaks off after {frames} of {announced.frames} frames"
    if frames and announced.seconds - seconds > max(0.3, 0.05 * announced.seconds):
        seconds = max(seconds, 0.0)  # damaged time stamps may run backwards
        return f"breaks off after {seconds:.1f} of {announced.seconds:.1f} s"
    return ""
