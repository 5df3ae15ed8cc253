"""Write frames as a real video file: H.264 in MP4."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from stmn.files import whole_file


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int | Fraction = 25, crf: int = 18) -> None:
    """Encode (H, W, 3) RGB uint8 frames of even size; `crf` is x264's quality (lower is better).

    The file appears under its name only when it is whole.
    """
    with whole_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": str(crf), "preset": "veryfast"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for index, picture in enumerate(frames):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
