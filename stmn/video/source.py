"""Sources of video: a file, a folder of pictures, a camera, an address, or a pipe. All are opened in the same way."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import BinaryIO, Literal
from urllib.request import url2pathname

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from stmn.errors import DataError, UsageError
from stmn.runtime.files import open_regular
from stmn.video.crop import Crop, find_crop
from stmn.video.extent import stated_size
from stmn.video.limits import LARGEST
from stmn.video.opening import SCHEMES, is_picture, open_address, open_bytes, open_file
from stmn.video.pictures import ANIMATION_SUFFIXES, open_animation, open_folder, refuse_large

#: suffixes of video files, in lower case
VIDEO_SUFFIXES = frozenset({
    ".avi", ".mp4", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv", ".3gp", ".ts", ".ogv", ".gif",
    ".m2ts", ".vob", ".asf", ".mts", ".m2t", ".mxf", ".f4v", ".dv", ".dif", ".y4m", ".h264", ".264", ".h265", ".265",
    ".hevc", ".ivf", ".obu", ".3g2", ".3gpp", ".mpe", ".mpv", ".m1v", ".m2v", ".m2p", ".mjpeg", ".mjpg", ".qt", ".divx",
    ".xvid", ".rm", ".rmvb", ".ogm", ".nut", ".mk3d", ".amv", ".wtv", ".mod", ".tod", ".tp", ".trp", ".lrv", ".insv",
})  # fmt: skip
#: Python's name of a system -> FFmpeg's format for its cameras
_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
#: seconds to wait for an address or a camera to answer, and for its next frame
_TIMEOUT = 15.0
#: protocols that serve files, which can be read again
_FILE_PROTOCOLS = ("http", "https", "ftp", "sftp")

Kind = Literal["file", "camera", "address", "pipe"]


@dataclass(frozen=True)
class Source:
    """A source of video.

    Attributes:
        kind: The kind of source.
        place: A path, a camera's number or device, an address, or "-" for standard input.
        name: Its name in messages.
    """

    kind: Kind
    place: str
    name: str

    def open(self) -> InputContainer:
        """Open it with FFmpeg.

        Raises:
            DataError: It can't be opened, or has no video stream that FFmpeg can decode.
            UsageError: It is standard input, which is a terminal.
        """
        container = _open_container(self)
        streams = _video_streams(container)
        if any(stream.codec_context for stream in streams):
            return container
        container.close()
        if streams:
            raise DataError(f"{self.name}: its video is in a format that FFmpeg can't decode")
        raise DataError(f"{self.name}: holds no video stream")

    def find_crop(self, container: InputContainer) -> Crop | None:
        """Return the cropping of the video in an open container that its decoder doesn't apply."""
        if self.kind != "file" or not Path(self.place).is_file():
            return None
        covers = Disposition.attached_pic
        tracks = [stream.index for stream in container.streams.video if not stream.disposition & covers]
        return find_crop(Path(self.place), tracks.index(main_stream(container).index))

    def missing_bytes(self) -> float:
        """Return the fraction of a file's stated bytes that are missing; 0 for other sources."""
        if self.kind != "file" or Path(self.place).is_dir():
            return 0.0
        with open_regular(self.place) as file:
            stated, size = stated_size(file), file.seek(0, os.SEEK_END)
        return max(1 - size / stated, 0.0) if stated else 0.0


def file_source(path: str | Path) -> Source:
    """Make a source from a path in a file, such as a list, or from a program: never a pipe, a camera or an address."""
    return Source("file", str(path), str(path))


def parse_source(value: str | Path) -> Source:
    """Parse what a person typed: a file, "-" for standard input, a camera's number or device, an address, a path.

    An existing file is always a file, so a video named `0` is not camera 0.

    Raises:
        UsageError: It is an address with an unsupported scheme.
    """
    text = str(value)
    path = Path(value)
    if path.is_file():
        return Source("file", text, text)
    if text == "-":
        return Source("pipe", text, "standard input")
    if path.is_fifo():
        return Source("pipe", text, text)
    if text.isdecimal():
        return Source("camera", text, f"camera {text}")
    if path.is_char_device():
        return Source("camera", text, text)
    scheme, colon, rest = text.partition("://")
    if not colon:
        return file_source(text)
    if scheme.lower() == "file":
        return Source("file", url2pathname(rest.removeprefix("localhost")), text)
    if scheme.lower() not in SCHEMES:
        known = ("https", "http", "rtsp", "rtmp", "udp", "srt")
        raise UsageError(
            f"{text}: can't be read: neither a file nor an address that begins with one of {', '.join(known)}"
        )
    return Source("address", text, text)


def main_stream(container: InputContainer) -> VideoStream:
    """Return the video stream that a player shows: the default one, else the first that FFmpeg can decode."""
    streams = [stream for stream in _video_streams(container) if stream.codec_context]
    return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])


def is_live(source: Source) -> bool:
    """True for a source whose end is not known in advance: a camera, or a live stream.

    Raises:
        DataError: An address can't be opened.
    """
    if source.kind == "camera":
        return True
    if source.kind != "address":
        return False
    if source.place.partition("://")[0].lower() not in _FILE_PROTOCOLS:
        return True
    with source.open() as container:
        return (container.duration or 0) <= 0


@contextmanager
def rereadable(source: Source) -> Iterator[Source]:
    """Yield the same video as a source that can be opened several times; a pipe's content is saved first.

    Raises:
        DataError: A pipe is empty, or can't be saved.
        UsageError: It is standard input, which is a terminal.
    """
    if source.kind != "pipe":
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="stmn-") as folder:
        saved = Path(folder, "video")
        try:
            with open(saved, "wb") as file:
                copyfileobj(_open_pipe(source).file, file, 2**20)
        except OSError as error:
            raise DataError(
                f"{source.name}: can't be saved in {tempfile.gettempdir()}: {error.strerror or error}; "
                f"with --window it need not be"
            ) from error
        if not saved.stat().st_size:
            raise DataError(f"{source.name}: holds nothing")
        yield Source("file", str(saved), source.name)


def describe_ffmpeg_error(error: Exception) -> str:
    """Return FFmpeg's words for an error, without its number and without the path, which the caller names."""
    words = getattr(error, "strerror", None) or str(error)
    if words == "Invalid argument":  # FFmpeg's only words for pictures that are too large
        words += f" (pictures of more than {LARGEST} pixels are refused)"
    return f"no answer within {_TIMEOUT:g} s" if words == "Immediate exit requested" else words


def _video_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams, without covers and thumbnails."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & still]


def _open_container(source: Source) -> InputContainer:
    """Open FFmpeg's container of a source, whatever it holds. Raises `DataError` or `UsageError`."""
    try:
        if source.kind == "camera":
            return _open_camera(source)
        if source.kind == "address":
            return open_address(source.place, _TIMEOUT)
        if source.kind == "pipe":
            return open_bytes(_open_pipe(source))
        path = Path(source.place)
        if path.is_dir():
            return open_folder(path)
        if not path.exists():
            raise DataError(f"{source.name}: no such video file")
        if path.suffix.lower() in ANIMATION_SUFFIXES:
            return open_animation(path)
        container = open_file(path)
        if is_picture(container):
            refuse_large(path)
        return container
    except (FFmpegError, ValueError, OSError) as error:
        raise DataError(f"{source.name}: not a readable video: {describe_ffmpeg_error(error)}") from error


def _open_camera(source: Source) -> InputContainer:
    """Open a camera with FFmpeg's driver for this system. Raises `DataError`."""
    driver = _CAMERA_FORMATS.get(sys.platform, "v4l2")
    if not any(driver in name.split(",") for name in av.formats_available):
        raise DataError(
            f"{source.name}: the FFmpeg in PyAV {av.__version__} can't read cameras ({driver} is not built in)"
        )
    device = source.place
    if driver == "v4l2" and device.isdecimal():
        device = f"/dev/video{device}"
    try:
        if driver == "dshow":  # it knows cameras only by name
            cameras = [d for d in av.enumerate_input_devices(driver) if "video" in d.media_types]
            if int(device) >= len(cameras):
                raise DataError(f"{source.name}: no such camera; this machine has {len(cameras)}")
            device = f"video={cameras[int(device)].name}"
        return av.open(device, format=driver, timeout=_TIMEOUT)
    except (FFmpegError, ValueError, OSError) as error:
        shown = f" ({device})" if device != source.place else ""
        raise DataError(
            f"{source.name}: can't be opened{shown}: {describe_ffmpeg_error(error)}; is a camera connected?"
        ) from error


class _Unclosable:
    """A file that FFmpeg must not close, and may seek in only if it is seekable."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        # read1 returns what is available: a frame must not wait for later ones
        self.read = file.read1 if hasattr(file, "read1") else file.read
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable


def _open_pipe(source: Source) -> _Unclosable:
    """Open standard input or a named pipe. Raises `UsageError` if standard input is a terminal."""
    if source.place != "-":
        return _Unclosable(open(source.place, "rb"))
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("standard input is a terminal; pipe a video into it: cat clip.avi | stmn predict MODEL -")
    if sys.stdin.buffer.seekable():
        sys.stdin.buffer.seek(0)
    return _Unclosable(sys.stdin.buffer)
