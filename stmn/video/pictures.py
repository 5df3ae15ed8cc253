"""Pictures as a video: a folder of numbered files, and animations that FFmpeg can't decode."""

import errno
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from PIL import Image, ImageSequence

from stmn.errors import DataError
from stmn.runtime.files import check_regular
from stmn.video.limits import LARGEST, MAX_PIXELS
from stmn.video.opening import open_bytes, open_listed

#: suffixes of pictures that may be a video's frames
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"})
#: suffixes of animations that Pillow decodes, not FFmpeg
ANIMATION_SUFFIXES = frozenset({".webp"})
#: frames per second if unknown
_RATE = 25
#: largest number of bytes of a picture or an animation
_LONGEST_PICTURE = 2**29
_TOO_LARGE = f"it has more than {LARGEST} pixels"
# Pillow also logs what it raises
logging.getLogger("PIL").addHandler(logging.NullHandler())
_NUMBERED = re.compile(r"(.*?)(\d+)(\.\w+)")


def list_pictures(folder: Path) -> list[Path]:
    """Return the frames in a folder in order of their numbers; empty if it holds no sequence.

    A sequence is at least two pictures whose names differ only in the number before the suffix. Hidden files, and files
    that are not pictures, are ignored.
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
        DataError: It holds no sequence of pictures, or one is missing.
    """
    pictures = list_pictures(folder)
    if not pictures:
        raise DataError(f"{folder}: holds no numbered pictures")
    numbers = [int(match[2]) for path in pictures if (match := _NUMBERED.fullmatch(path.name))]
    gap = next((one + 1 for one, other in pairwise(numbers) if other != one + 1), None)
    if gap is not None:
        raise DataError(f"{folder}: picture {gap} of {numbers[0]} to {numbers[-1]} is missing")
    if "\n" in str(folder.absolute()):
        raise DataError(f"{str(folder)!r}: its path has a line break, which FFmpeg can't read")
    lines = ["ffconcat version 1.0"]
    for path in pictures:
        try:
            open_picture(path).close()
        except OSError as error:
            raise DataError(f"{path}: not a readable picture: {error.strerror or error}") from error
        quoted = str(path.absolute()).replace("'", r"'\''")
        lines += [f"file 'file:{quoted}'", "option pattern_type none", f"duration {1 / _RATE}"]
    return open_listed("\n".join(lines).encode("utf-8", "surrogateescape"))


def open_picture(path: Path) -> Image.Image:
    """Open a picture with Pillow, which reads only its header.

    Raises:
        OSError: It is not a picture, has more than `MAX_PIXELS`, or can't be read.
    """
    check_regular(path)
    if path.stat().st_size > _LONGEST_PICTURE:  # Pillow reads some formats completely
        raise OSError(errno.EFBIG, f"is larger than {_LONGEST_PICTURE / 2**20:g} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damage, which FFmpeg judges
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OSError(errno.EFBIG, _TOO_LARGE) from error
    except OSError:
        raise
    except Exception as error:  # what Pillow's parsers raise when a header is damaged
        raise OSError(errno.EINVAL, "damaged") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise OSError(errno.EFBIG, _TOO_LARGE)
    return image


def refuse_large(path: Path) -> None:
    """Raise `OSError` for a picture of more than `MAX_PIXELS`, if Pillow can read it; FFmpeg would not report that."""
    try:
        open_picture(path).close()
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise


def open_animation(path: Path) -> InputContainer:
    """Open an animated picture as a video with its frame times. It is decoded frame by frame.

    Raises:
        OSError, ValueError: It is damaged, or larger than `MAX_PIXELS`.
    """
    return open_bytes(_Animation(path))


class _Animation:
    """An animated picture as a file of uncompressed frames, which are decoded when they are read."""

    def __init__(self, path: Path) -> None:
        self._made = io.BytesIO()
        self._frames = self._encode(path)

    def read(self, size: int) -> bytes:
        """Return at most `size` of the next bytes; empty at the end."""
        while not (content := self._made.read(size)):
            self._made.seek(0)
            self._made.truncate()
            try:
                if next(self._frames, None) is None:
                    return b""
            except MemoryError:
                raise
            except Exception as error:  # what Pillow's decoders raise when a file is damaged
                raise OSError(errno.EINVAL, f"damaged: {error}") from error
            self._made.seek(0)
        return content

    def _encode(self, path: Path) -> Iterator[bool]:
        """Write one frame at a time."""
        with open_picture(path) as image, av.open(_WriteOnly(self._made), "w", format="nut") as container:
            stream = container.add_stream("rawvideo", rate=_RATE)
            stream.width, stream.height = image.size
            stream.pix_fmt = "rgba"
            stream.codec_context.time_base = Fraction(1, 1000)
            milliseconds = 0
            for picture in ImageSequence.Iterator(image):
                frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGBA")), format="rgba")
                frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
                container.mux(stream.encode(frame))
                milliseconds += int(picture.info.get("duration") or 1000 / _RATE)
                yield True
            container.mux(stream.encode())
        yield True


class _WriteOnly:
    """A file that can't seek, so that nothing is rewritten; writes after it is closed are dropped."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, content: bytes) -> int:
        """Write all of the content."""
        return len(content) if self._file.closed else self._file.write(content)
