"""Write frames as a real video file: H.264 in MP4."""

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

#: the least ticks a second that frames are timed by
TICKS = 10_000


class VideoWriter:
    """Takes frames for a video file as they come; memory holds the few that the encoder looks back on.

    `fps` may be set until the first one is added.
    """

    def __init__(self, container: OutputContainer, fps: int | Fraction, crf: int) -> None:
        self.container, self.fps, self.crf = container, Fraction(fps), crf
        self.stream: VideoStream | None = None
        self.tick = Fraction(1)
        self.count = 0
        self.last = -1

    def add(self, picture: NDArray[np.uint8], seconds: float | None = None) -> None:
        """Encode an (H, W, 3) RGB uint8 frame of even size, shown at `seconds`, by default evenly at the rate."""
        if self.stream is None:
            self.stream = self.begin(*picture.shape[:2])
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        when = round((self.count / self.fps if seconds is None else Fraction(seconds)) / self.tick)
        frame.pts = self.last = max(when, self.last + 1)
        frame.time_base = self.tick
        self.container.mux(self.stream.encode(frame))
        self.count += 1

    def begin(self, height: int, width: int) -> VideoStream:
        """The stream of frames of a size."""
        options = {"crf": str(self.crf), "preset": "veryfast"}
        stream = self.container.add_stream("libx264", rate=self.fps, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1
        # whole ticks a frame: of 25 a second 400 of 10000, of 30000/1001 1001 of 30000
        self.tick = Fraction(1, self.fps.numerator * -(-TICKS // self.fps.numerator))
        stream.codec_context.time_base = self.tick
        return stream

    def finish(self) -> None:
        """Encode what the encoder still holds."""
        if self.stream is not None:
            self.container.mux(self.stream.encode())


@contextmanager
def writing_video(path: Path, fps: int | Fraction = 25, crf: int = 18) -> Iterator[VideoWriter]:
    """A video file that appears under its name when the block ends well; `crf` is x264's quality (lower is better)."""
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        writer = VideoWriter(container, fps, crf)
        yield writer
        writer.finish()


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int | Fraction = 25, crf: int = 18) -> None:
    """Encode (H, W, 3) RGB uint8 frames of even size.

    The file appears under its name only when it is whole.
    """
    with writing_video(path, fps, crf) as writer:
        for picture in frames:
            writer.add(picture)
