"""Find out whether a file holds a video, whatever its name."""

from pathlib import Path

from av.error import FFmpegError
from av.stream import Disposition

from stmn.video.opening import open_file
from stmn.video.pictures import ANIMATION_SUFFIXES, open_picture

#: FFmpeg's formats that interpret text and data as pictures, or are pictures
_DOUBTFUL = frozenset({"tty", "image2", "image2pipe", "bin", "xbin", "adf", "idf", "rawvideo", "data", "ffmetadata"})


def holds_video(path: Path) -> bool:
    """Return True if FFmpeg recognises a decodable video in a file; pictures, sound and text are not videos."""
    if path.suffix.lower() in ANIMATION_SUFFIXES:
        return _is_animated(path)
    try:
        with open_file(path) as container:
            name = container.format.name
            if name in _DOUBTFUL or name.endswith("_pipe"):
                return False
            return any(
                stream.codec_context is not None
                and stream.codec_context.width > 0
                and not stream.disposition & Disposition.attached_pic
                for stream in container.streams.video
            )
    except (FFmpegError, ValueError, OSError):
        return False


def _is_animated(path: Path) -> bool:
    """True for an animated picture."""
    try:
        with open_picture(path) as image:
            return bool(getattr(image, "is_animated", False))
    except OSError:
        return False
