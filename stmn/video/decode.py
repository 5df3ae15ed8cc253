"""Frames of a video file, one after the other, at a given short side."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from stmn.errors import DataError


@dataclass(frozen=True)
class VideoInfo:
    """What the container says: size in pixels before any rotation, frames a second (0 when unknown)."""

    width: int
    height: int
    fps: float


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """(width, height) with the short side at `short_side`, aspect kept; None keeps the size."""
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def open_video(path: Path | str) -> av.container.InputContainer:
    """Open a file with a video stream that can be decoded. Raises `DataError` naming the file and FFmpeg's reason."""
    address = str(path)
    if "://" not in address:
        if not Path(path).is_file():
            raise DataError(f"{path}: no such video file")
        address = str(Path(path).absolute())  # else FFmpeg would take the "a" of a:b.avi for a protocol
    try:
        # Published data sets hold metadata in unknown encodings; the pictures are what matters.
        container = av.open(address, metadata_errors="replace")
    except (FFmpegError, ValueError, OSError) as error:
        raise DataError(f"{path}: not a readable video: {reason(error)}") from error
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: holds no video stream")
    if container.streams.video[0].codec_context is None:
        container.close()
        raise DataError(f"{path}: its pictures are in a format that FFmpeg can't decode")
    return container


def reason(error: Exception) -> str:
    """FFmpeg's words without its number and without the path, which the caller names."""
    return getattr(error, "strerror", None) or str(error)


def video_info(path: Path | str) -> VideoInfo:
    """Size and rate of a video file without decoding it."""
    with open_video(path) as container:
        stream = container.streams.video[0]
        return VideoInfo(stream.codec_context.width, stream.codec_context.height, float(stream.average_rate or 0))


def decode(path: Path | str, short_side: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames, (H, W, 3) RGB uint8, upright, the short side at `short_side` pixels.

    Memory holds one frame at a time. A video that breaks off in the middle raises `DataError` at that place, after the
    frames before it, also where only its header tells: when there are fewer frames than it announces.
    """
    with open_video(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # parallelism is over videos; decoder threads deadlock with forked workers
        stream.codec_context.thread_count = 1
        count = 0
        announced = announced_length(container)
        first = last = 0.0
        try:
            for frame in container.decode(stream):
                width, height = scaled_size(frame.width, frame.height, short_side)
                picture = (
                    frame.reformat(width, height, format="rgb24", interpolation="BICUBIC")
                    .to_ndarray()
                    .astype(np.uint8, copy=False)
                )
                turns = round(getattr(frame, "rotation", 0) / 90) % 4
                yield np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
                first, last = (first, end_of(frame)) if count else (frame.time or 0.0, end_of(frame))
                count += 1
        except (FFmpegError, ValueError) as error:
            raise DataError(f"{path}: decoding failed after {count} frames: {reason(error)}") from error
        if words := broken_off(announced, count, last - first):
            raise DataError(f"{path}: {words}")


@dataclass(frozen=True)
class Announced:
    """How long a container says that its video is: frames and seconds, 0 where it does not say."""

    frames: int
    seconds: float


def announced_length(container: av.container.InputContainer) -> Announced:
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
