"""Decode a video, frame by frame, optionally scaled to a short side."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.runtime.workers import report_progress
from stmn.video.clock import resample, time_frames
from stmn.video.colour import describe_colours
from stmn.video.deinterlace import deinterlace
from stmn.video.frame import Frame, Painter
from stmn.video.length import Announced, announced_end, header_length, judge
from stmn.video.limits import LARGEST
from stmn.video.reading import VideoReader
from stmn.video.source import Source, describe_ffmpeg_error, file_source, main_stream

#: frames per second of a video whose rate is not stated
_DEFAULT_RATE = Fraction(25)
#: default of the largest fraction of a video's frames that may be lost to damage
ALLOWED_DAMAGE = 0.05


@dataclass(frozen=True)
class VideoInfo:
    """The facts in a video's header: size in square pixels before any rotation, frames per second, number of frames.

    The rate and the number of frames are 0 if they are not stated.
    """

    width: int
    height: int
    fps: float
    frames: int = 0


def probe_video(path: Path | str) -> VideoInfo:
    """Read a video's header without decoding it. Raises `DataError` if that fails, or it states no size."""
    source = file_source(path)
    with source.open() as container:
        stream = main_stream(container)
        if not stream.codec_context.width or not stream.codec_context.height:
            raise DataError(f"{source.name}: states no size, or more than {LARGEST} pixels")
        size = Painter(stream, source.find_crop(container)).size(
            stream.codec_context.width, stream.codec_context.height
        )
        rate, length = float(stream.average_rate or 0), header_length(container)
        return VideoInfo(*size, rate, length.frames or round(length.seconds * rate))


def decode_video(path: Path | str, short_side: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Decode a video to pictures; memory holds one at a time. Raises as `iter_frames` does.

    Args:
        path: The video.
        short_side: Short side of the pictures in pixels; None keeps the video's size.

    Yields:
        (H, W, 3) RGB uint8, upright.
    """
    for frame in iter_frames(path):
        yield frame.picture(short_side)


def iter_frames(
    video: Path | str | Source, fps: float | None = None, allow_damage: float = ALLOWED_DAMAGE,
    say: Callable[[str], None] | None = None, until: float | None = None,
) -> Iterator[Frame]:  # fmt: skip
    """Yield the frames of a video in order, all of one size.

    Args:
        video: The video.
        fps: Frames per second, each the frame shown nearest to its time. By default, and for a folder of pictures, all
            frames.
        allow_damage: The fraction of the frames, 0..1, that may be lost because the file is damaged or truncated.
        say: Called with messages, without the video's name, about losses and oddities that are not errors.
        until: Seconds after which nothing is read or judged.

    Raises:
        DataError: It can't be opened, too many frames are lost, or their size changes. The frames before that have been
            yielded.
    """
    source = video if isinstance(video, Source) else file_source(video)
    frames = _read_video(source, allow_damage, say or (lambda _: None), until)
    if fps and not Path(source.place).is_dir():  # pictures have no frame rate
        frames = resample(frames, Fraction(fps).limit_denominator(1001))
    yield from _check_size(frames, source.name)


def count_frames(
    video: Path | str | Source, fps: float | None = None, allow_damage: float = ALLOWED_DAMAGE,
    say: Callable[[str], None] | None = None,
) -> int:  # fmt: skip
    """Count the frames of a video by decoding it. Arguments and errors are those of `iter_frames`."""
    return sum(1 for _ in iter_frames(video, fps, allow_damage, say))


def _read_video(
    source: Source, allow_damage: float, say: Callable[[str], None], until: float | None
) -> Iterator[Frame]:
    """Yield the frames of a video with their times. Raises `DataError` as `iter_frames` does."""
    with source.open() as container:
        reader = VideoReader(container, patient=source.kind in ("file", "pipe"))
        stream, tally, announced = reader.stream, reader.tally, announced_end(container)
        missing, painter = source.missing_bytes(), Painter(stream, source.find_crop(container))
        rate = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
        try:
            for number, frame in enumerate(time_frames(deinterlace(reader.frames()), rate, painter)):
                report_progress()
                if not number:
                    for words in filter(None, [describe_colours(frame.decoded), reader.note]):
                        say(words)
                if until is not None and frame.seconds >= until:
                    announced, missing, tally.indexed = Announced(0, False), 0, 0
                    break
                yield frame
        except (FFmpegError, OSError, ValueError) as error:
            raise DataError(
                f"{source.name}: decoding failed after {tally.frames} frames: {describe_ffmpeg_error(error)}"
            ) from error
        if not tally.frames and (tally.packets or tally.reason):
            reason = tally.reason or "their key frame is missing or damaged"
            raise DataError(f"{source.name}: none of its frames can be decoded: {reason}")
        found = judge(tally, announced, float(rate), missing)
        if tally.frames and found.lost > allow_damage * found.of:
            raise DataError(f"{source.name}: {found.words} (more than --allow-damage {allow_damage:g})")
        for words in [found.words] * bool(found.lost) + found.notes:
            say(words)


def _check_size(frames: Iterator[Frame], name: str) -> Iterator[Frame]:
    """Yield the frames. Raises `DataError` if one has another size than the first."""
    size: tuple[int, int] | None = None
    for number, frame in enumerate(frames):
        if size not in (None, frame.size):
            raise DataError(f"{name}: the frame size changes after {number} frames; cut the video there")
        size = frame.size
        yield frame
