"""Make video files for tests, of any codec, size and pixel format, and files that only look like videos."""

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def moving(frames: int, height: int = 48, width: int = 64, dx: int = 1, dy: int = 0, seed: int = 0) -> list[Picture]:
    """(height, width, 3) pictures of a smooth coloured texture that moves by (dx, dy) pixels per frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] * 2 * np.pi
    texture = np.zeros((height, width, 3))
    for _ in range(12):
        waves, phases = rng.integers(-4, 5, 2), rng.uniform(0, 2 * np.pi, 3)
        texture += np.cos(waves[0] * y[..., None] / height + waves[1] * x[..., None] / width + phases)
    picture = np.clip(127 + 25 * texture, 0, 255).astype(np.uint8)
    return [np.roll(picture, (dy * t, dx * t), axis=(0, 1)) for t in range(frames)]


def film(
    path: Path, pictures: Iterable[Picture], codec: str = "mpeg4", pix_fmt: str = "yuv420p", rate: int = 25
) -> Path:
    """Encode pictures in the container that the path's suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1  # the same file on any number of cores
        if codec == "mpeg4":
            stream.codec_context.qmax = 3  # nearly without loss
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def sound(path: Path) -> Path:
    """A second of a tone and no picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        samples = np.sin(np.arange(44100) / 20).astype(np.float32)[None]
        for start in range(0, 44032, 1024):
            frame = av.AudioFrame.from_ndarray(samples[:, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def count_frames(path: Path) -> int:
    """Count the frames that FFmpeg decodes."""
    with av.open(str(path), metadata_errors="ignore") as container:
        return sum(1 for _ in container.decode(video=0))
