"""Decode a video, frame by frame, at a given short side."""

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
from stmn.video.deinterlace import deinterlace
from stmn.video.frame import Frame, Painter
from stmn.video.source import Source, describe_ffmpeg_error, film_stream, parse_source

#: frames per second of a video that does not state its rate
_DEFAULT_RATE = Fraction(25)
#: seconds between two frames beyond which a time stamp is taken to be damaged
_LONGEST_PAUSE = 60


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says: size in pixels before any rotation, and frames per second (0 if unknown)."""

    width: int
    height: int
    fps: float


@dataclass(frozen=True)
class HeaderLength:
    """How long a video is according to its header: frames and seconds, each 0 if the header doesn't say."""

    frames: int
    seconds: float


def probe_video(path: Path | str) -> VideoInfo:
    """Read the size and the rate of a video without decoding it. Raises `DataError` if it can't be opened."""
    with parse_source(path).open() as container:
        stream = film_stream(container)
        return VideoInfo(stream.codec_context.width, stream.codec_context.height, float(stream.average_rate or 0))


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


def iter_frames(video: Path | str | Source) -> Iterator[Frame]:
    """Yield the frames of a video in order.

    Raises:
        DataError: It can't be opened or decoded, or it ends much earlier than its header says. The frames before that
            have been yielded.
    """
    source = video if isinstance(video, Source) else parse_source(video)
    with source.open() as container:
        stream = film_stream(container)
        stream.thread_type = "NONE"  # videos run in parallel instead; decoder threads deadlock in forked workers
        stream.codec_context.thread_count = 1
        rate = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
        evenly_spaced = container.format.name == "avi"
        painter = Painter(stream)
        count = 0
        expected = header_length(container)
        first = last = 0.0
        seconds = -float(1 / rate)
        try:
            for frame in deinterlace(_decode_packets(container, source.kind == "address")):
                first, last = (first, _end_of(frame)) if count else (frame.time or 0.0, _end_of(frame))
                # AVI has no time stamps; those that FFmpeg makes up jump where frames are stored out of order
                seconds = (
                    float(count / rate) if evenly_spaced else _time_of(frame, first, seconds, float(1 / rate))
                )  # fmt: skip
                yield Frame(frame, seconds, rate, painter)
                count += 1
        except (FFmpegError, ValueError) as error:
            raise DataError(
                f"{source.name}: decoding failed after {count} frames: {describe_ffmpeg_error(error)}"
            ) from error
        if words := _describe_truncation(expected, count, last - first):
            raise DataError(f"{source.name}: {words}")


def count_frames(video: Path | str | Source) -> int:
    """Count the frames of a video by decoding it. Raises as `iter_frames` does."""
    return sum(1 for _ in iter_frames(video))


def header_length(container: InputContainer) -> HeaderLength:
    """Return how long the first video stream of an open video is according to its header."""
    stream = film_stream(container)
    seconds = float((stream.duration or 0) * (stream.time_base or 0))
    if "mp4" in container.format.name.split(","):
        # an edit list may show only a part of the frames that are counted; FFmpeg's duration allows for that
        return HeaderLength(0, seconds)
    if stream.frames or seconds:
        return HeaderLength(stream.frames, seconds)
    # as Matroska states it
    if match := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "").strip()):
        return HeaderLength(0, 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]))
    if len(container.streams) == 1:  # otherwise the duration may be that of the sound
        return HeaderLength(0, (container.duration or 0) / av.time_base)
    return HeaderLength(0, 0.0)


def _decode_packets(container: InputContainer, streamed: bool) -> Iterator[av.VideoFrame]:
    """What FFmpeg decodes. If a `streamed` video breaks off, also the last frames, which the decoder still holds."""
    stream = film_stream(container)
    try:
        yield from container.decode(stream)
    except FFmpegError:
        if streamed:
            yield from stream.codec_context.decode(None)
        raise


def _time_of(frame: av.VideoFrame, first: float, previous: float, step: float) -> float:
    """When a frame is shown, in seconds after the first.

    That is its time stamp, unless it has none or a damaged one, which is not later than the previous frame or minutes
    later. Then it is `step` after the previous frame.
    """
    seconds = previous + step if frame.time is None else frame.time - first
    return seconds if previous < seconds < previous + _LONGEST_PAUSE else previous + step


def _end_of(frame: av.VideoFrame) -> float:
    """When a frame stops being shown, in seconds."""
    return float((frame.time or 0.0) + (frame.duration or 0) * (frame.time_base or 0))


def _describe_truncation(expected: HeaderLength, frames: int, seconds: float) -> str:
    """Words for a video that is clearly shorter than its header says; "" for others.

    Published data sets are full of headers that count one or two frames too many, and times are rounded.
    """
    if frames and expected.frames - frames > max(3, 0.03 * expected.frames):
        return f"breaks off after {frames} of {expected.frames} frames"
    if frames and expected.seconds - seconds > max(0.3, 0.05 * expected.seconds):
        seconds = max(seconds, 0.0)  # damaged time stamps may run backwards
        return f"breaks off after {seconds:.1f} of {expected.seconds:.1f} s"
    return ""
