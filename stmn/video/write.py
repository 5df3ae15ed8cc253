"""Write video files: H.264 in MP4."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from stmn.runtime.files import atomic_write
from stmn.runtime.kernel_files import list_levels

#: smallest number of ticks per second for frame times
_TICKS = 10_000
_AVX512 = "x86-64-v4"


class VideoWriter:
    """Encodes frames as they arrive; memory holds only those that the encoder refers to. Made by `video_writer`.

    `fps` may be changed until the first frame is added.
    """

    def __init__(self, container: OutputContainer, fps: int | Fraction, crf: int) -> None:
        self.fps = Fraction(fps)
        self.count = 0
        self._container, self._crf = container, crf
        self._stream: VideoStream | None = None
        self._tick = Fraction(1)
        self._last = -1

    def add(self, picture: NDArray[np.uint8], seconds: float | None = None) -> None:
        """Encode a frame.

        Args:
            picture: (H, W, 3) RGB uint8, of even height and width, the same for all frames.
            seconds: The time at which it is shown; by default evenly spaced, at `fps`.
        """
        if self._stream is None:
            self._stream = self._add_stream(*picture.shape[:2])
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        when = round((self.count / self.fps if seconds is None else Fraction(seconds)) / self._tick)
        frame.pts = self._last = max(when, self._last + 1)
        frame.time_base = self._tick
        self._container.mux(self._stream.encode(frame))
        self.count += 1

    def finish(self) -> None:
        """Write the frames that the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())

    def _add_stream(self, height: int, width: int) -> VideoStream:
        """Add a stream for frames of a size."""
        options = {"crf": str(self._crf), "preset": "veryfast"}
        if _AVX512 in list_levels():  # x264's AVX-512 code occasionally gives another file for the same pictures
            options["x264-params"] = "asm=avx2"
        stream = self._container.add_stream("libx264", rate=self.fps, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1
        # whole ticks per frame: at 25 frames per second 400 of 10000, at 30000/1001 1001 of 30000
        self._tick = Fraction(1, self.fps.numerator * -(-_TICKS // self.fps.numerator))
        stream.codec_context.time_base = self._tick
        return stream


@contextmanager
def video_writer(path: Path, fps: int | Fraction = 25, crf: int = 18) -> Iterator[VideoWriter]:
    """Write a video file that gets its name only when the block succeeds.

    Args:
        path: The file.
        fps: Frames per second.
        crf: x264's quality, 0..51; lower is better.

    Raises:
        StmnError: The file can't be written.
    """
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        writer = VideoWriter(container, fps, crf)
        yield writer
        writer.finish()


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int | Fraction = 25, crf: int = 18) -> None:
    """Write frames, (H, W, 3) RGB uint8 of even size, as a video file that gets its name only when it is complete.

    Other arguments and errors are those of `video_writer`.
    """
    with video_writer(path, fps, crf) as writer:
        for picture in frames:
            writer.add(picture)
