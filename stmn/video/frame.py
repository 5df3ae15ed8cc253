"""A decoded frame, and the picture that a player shows of it: square pixels, upright, in BT.709 colours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.video.colour import blend, convert_to_bt709, has_wide_colours, name_matrix
from stmn.video.crop import Crop
from stmn.video.limits import LARGEST, MAX_PIXELS

#: largest ratio of a pixel's sides; a header that states a larger one is damaged
_LONGEST_PIXEL = 8

# PyAV's annotations omit its arguments
_side_data = cast("Callable[[av.VideoFrame], Mapping[Any, Any]]", SideDataContainer)


class Painter:
    """Makes the pictures of one video's frames. It keeps FFmpeg's scalers, which are expensive to set up.

    Args:
        stream: The video's stream.
        crop: Pixels to leave out at each side, if the decoder doesn't.
    """

    def __init__(self, stream: VideoStream, crop: Crop | None = None) -> None:
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
        plausible = Fraction(1, _LONGEST_PIXEL) <= aspect <= _LONGEST_PIXEL
        #: width of a pixel divided by its height
        self.pixel_aspect = aspect if plausible else Fraction(1)
        left, top, right, bottom = crop or (0, 0, 0, 0)
        inside = left + right < stream.codec_context.width and top + bottom < stream.codec_context.height
        self._crop = crop if inside else None
        self._scalers: dict[tuple[int, int], VideoReformatter] = {}

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height, with square pixels, of the shown part of frames stored as `width` x `height`."""
        if self._crop:
            width, height = width - self._crop.left - self._crop.right, height - self._crop.top - self._crop.bottom
        return _scale_size(width, height, self.pixel_aspect, None)

    def paint(self, frame: av.VideoFrame, short_side: int | None) -> NDArray[np.uint8]:
        """Return a stored frame with square pixels, (H, W, 3) RGB, not turned. Raises `DataError` if FFmpeg can't."""
        wide, alpha = has_wide_colours(frame), any(component.is_alpha for component in frame.format.components)
        transfer, primaries = frame.color_trc, frame.color_primaries
        name_matrix(frame)
        rgb, rgba = ("rgb48le", "rgba64le") if wide else ("rgb24", "rgba")
        if alpha or frame.format.has_palette or self._crop:
            picture = blend(self._convert(frame, (frame.width, frame.height), rgba))
            frame = av.VideoFrame.from_ndarray(self._cut(picture), format=rgb)
        picture = self._convert(frame, _scale_size(frame.width, frame.height, self.pixel_aspect, short_side), rgb)
        return convert_to_bt709(picture, transfer, primaries) if wide else picture

    def _cut(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Return the shown part of a stored picture."""
        if self._crop is None:
            return picture
        (left, top, right, bottom), (height, width) = self._crop, picture.shape[:2]
        return np.ascontiguousarray(picture[top : height - bottom, left : width - right])

    def _convert(self, frame: av.VideoFrame, size: tuple[int, int], pixel_format: str) -> NDArray[Any]:
        """Convert a frame to a size, (width, height), and an RGB format. One thread: videos run in parallel."""
        scaler = self._scalers.setdefault(size, VideoReformatter())
        way = Interpolation.BICUBIC
        try:
            return scaler.reformat(frame, *size, format=pixel_format, interpolation=way, threads=1).to_ndarray()
        except FFmpegError as error:
            raise DataError(
                f"pictures of FFmpeg's format {frame.format.name} can't be converted to RGB: {error.strerror}"
            ) from error


@dataclass(frozen=True)
class Frame:
    """A decoded frame, `seconds` after the first one, of a video of `rate` frames per second.

    Only `picture` converts it, so unused frames cost nothing more.
    """

    decoded: av.VideoFrame
    seconds: float
    rate: Fraction
    painter: Painter

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, square and upright."""
        width, height = self.painter.size(self.decoded.width, self.decoded.height)
        return (width, height) if find_orientation(self.decoded)[0] else (height, width)

    def picture(self, short_side: int | None = None) -> NDArray[np.uint8]:
        """Return the frame as (H, W, 3) RGB uint8, upright, scaled to a short side in pixels (None: not scaled)."""
        picture = self.painter.paint(self.decoded, short_side)
        transposed, mirrored, upside_down = find_orientation(self.decoded)
        if transposed:
            picture = picture.transpose(1, 0, 2)
        return np.ascontiguousarray(picture[:: -1 if upside_down else 1, :: -1 if mirrored else 1])


def find_orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Return how to make a frame upright: whether to transpose it, then mirror it, then flip it vertically.

    The display matrix maps (x, y) to (a x + c y, b x + d y). Players round it to quarter turns and mirrors.
    """
    try:
        # not frame.side_data: it and the frame would refer to each other, and stay until garbage collection
        side_data = _side_data(frame)
        matrix = np.frombuffer(side_data[Type.DISPLAYMATRIX], np.int32)
    except (KeyError, ValueError):  # PyAV refuses unknown kinds of side data
        turns = round(frame.rotation / 90) % 4  # anticlockwise
        return turns % 2 == 1, turns in (2, 3), turns in (1, 2)
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _scale_size(width: int, height: int, aspect: Fraction, short_side: int | None) -> tuple[int, int]:
    """Return (width, height) with square pixels: at a short side, or, if None, without losing a pixel."""
    if short_side is None:
        return max(width, round(width * aspect)), max(height, round(height / aspect))
    scale = short_side / min(width * aspect, Fraction(height))
    scaled = max(1, round(width * aspect * scale)), max(1, round(height * scale))
    if scaled[0] * scaled[1] > MAX_PIXELS:
        raise DataError(
            f"pictures of {width}x{height} pixels have {scaled[0]}x{scaled[1]} at a short side of {short_side}, more "
            f"than {LARGEST}"
        )
    return scaled
