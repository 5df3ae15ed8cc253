"""Pictures that are a video: a folder of numbered files, and an animation that FFmpeg can't decode."""

import io
import os
import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from PIL import Image, ImageSequence

from stmn.errors import DataError

#: endings of pictures that may be a video's frames
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"})
#: endings of animations that Pillow decodes, not FFmpeg
ANIMATION_SUFFIXES = frozenset({".webp"})
#: frames per second, where nothing says them
_RATE = 25
_NUMBERED = re.compile(r"(.*?)(\d+)(\.\w+)")


def list_pictures(folder: Path) -> list[Path]:
    """Return the frames in a folder in order of their numbers, or nothing if it holds no sequence.

    A sequence is two pictures or more, whose names differ in the number before the ending alone. Other files than
    pictures, and hidden ones, don't matter.
    """
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []
    pictures = [name for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES]
    matches = [match for name in pictures if (match := _NUMBERED.fullmatch(name))]
    alike = {(match[1], match[3]) for match in matches}
    if len(matches) < max(len(pictures), 2) or len(alike) != 1 or len({int(m[2]) for m in matches}) < len(matches):
        return []
    return [folder / match[0] for match in sorted(matches, key=lambda match: int(match[2]))]


def open_folder(folder: Path) -> InputContainer:
    """Open a folder of numbered pictures as a video of 25 frames per second.

    Raises:
        DataError: It holds no sequence of pictures, or one is missing in it.
    """
    pictures = list_pictures(folder)
    if not pictures:
        raise DataError(f"{folder}: holds no numbered pictures")
    numbers = [int(match[2]) for path in pictures if (match := _NUMBERED.fullmatch(path.name))]
    gap = next((one + 1 for one, other in pairwise(numbers) if other != one + 1), None)
    if gap is not None:
        raise DataError(f"{folder}: picture {gap} of {numbers[0]} to {numbers[-1]} is missing")
    lines = ["ffconcat version 1.0"]
    for path in pictures:
        quoted = str(path.absolute()).replace("'", r"'\''")
        lines += [f"file '{quoted}'", f"duration {1 / _RATE}"]
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    # FFmpeg opens only what is named here, and only files
    return av.open(io.BytesIO(text), "r", format="concat", options={"safe": "0", "protocol_whitelist": "file"})


def open_animation(path: Path) -> InputContainer:
    """Open an animated picture as a video with the times of its frames. It is decoded as a whole.

    Raises:
        OSError, ValueError: It is damaged.
    """
    memory = io.BytesIO()
    with Image.open(path) as image, av.open(memory, "w", format="nut") as container:
        stream = container.add_stream("rawvideo", rate=_RATE)
        stream.width, stream.height = (side for side in image.size)
        stream.pix_fmt = "rgba"
        stream.codec_context.time_base = Fraction(1, 1000)
        milliseconds = 0
        for picture in ImageSequence.Iterator(image):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGBA")), format="rgba")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(frame))
            milliseconds += int(picture.info.get("duration") or 1000 / _RATE)
        container.mux(stream.encode())
    memory.seek(0)
    return av.open(memory, "r")
