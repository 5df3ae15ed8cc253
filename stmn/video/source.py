"""Where a video comes from: a file, a camera, an address, or a pipe. Each is opened the same way."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import BinaryIO, Literal

import av
from av.container import InputContainer
from av.error import FFmpegError

from stmn.errors import DataError, UsageError

#: what reads cameras, by the name that Python gives the system
CAMERAS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
#: seconds that an address or a camera may take to answer, and to send the next picture
PATIENCE = 15.0
#: addresses whose content is a file, so that it can be read twice
OF_FILES = ("http", "https", "ftp", "sftp", "file")
#: published data sets hold metadata in unknown encodings; the pictures are what matters
LENIENT = "replace"

Kind = Literal["file", "camera", "address", "pipe"]


@dataclass(frozen=True)
class Source:
    """`place` is a path, a camera's number or device, an address, or `-`; `name` is what a person calls it."""

    kind: Kind
    place: str
    name: str

    def open(self) -> InputContainer:
        """Open it; it has a video stream that can be decoded. Raises `DataError` naming it and FFmpeg's reason."""
        container = opened(self)
        if not container.streams.video:
            container.close()
            raise DataError(f"{self.name}: holds no video stream")
        if container.streams.video[0].codec_context is None:
            container.close()
            raise DataError(f"{self.name}: its pictures are in a format that FFmpeg can't decode")
        return container


def source(value: str | Path) -> Source:
    """What an argument means: digits are a camera, `-` is standard input, `://` makes an address, all else is a path.

    A file is a file whatever its name, so a video `0` is no camera.
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
    return Source("address" if "://" in text else "file", text, text)


def opened(given: Source) -> InputContainer:
    """FFmpeg's container of a source, whatever it holds. Raises `DataError`."""
    try:
        if given.kind == "camera":
            return open_camera(given)
        if given.kind == "address":
            return av.open(given.place, metadata_errors=LENIENT, timeout=PATIENCE)
        if given.kind == "pipe":
            return av.open(piped(given), "r", metadata_errors=LENIENT)
        if not Path(given.place).is_file():
            raise DataError(f"{given.name}: no such video file")
        # absolute, else FFmpeg would take the "a" of a:b.avi for a protocol
        return av.open(str(Path(given.place).absolute()), metadata_errors=LENIENT)
    except (FFmpegError, ValueError, OSError) as error:
        raise DataError(f"{given.name}: not a readable video: {reason(error)}") from error


def open_camera(given: Source) -> InputContainer:
    """The camera of a number, through the system's own way to cameras. Raises `DataError` when it can't be had."""
    way = CAMERAS.get(sys.platform, "v4l2")
    if not any(way in name.split(",") for name in av.formats_available):
        raise DataError(f"{given.name}: the FFmpeg in PyAV {av.__version__} can't read cameras ({way} is not built in)")
    device = given.place
    if way == "v4l2" and device.isdecimal():
        device = f"/dev/video{device}"
    try:
        if way == "dshow":  # knows cameras by name alone
            cameras = [d for d in av.enumerate_input_devices(way) if "video" in d.media_types]
            if int(device) >= len(cameras):
                raise DataError(f"{given.name}: there is none; this machine has {len(cameras)} cameras")
            device = f"video={cameras[int(device)].name}"
        return av.open(device, format=way, timeout=PATIENCE)
    except (FFmpegError, ValueError, OSError) as error:
        shown = f" ({device})" if device != given.place else ""
        raise DataError(f"{given.name}: can't be opened{shown}: {reason(error)}; is a camera connected?") from error


class Bytes:
    """A file's bytes for FFmpeg, which must not close it, and may seek in it only where that is possible."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.read = file.read1 if hasattr(file, "read1") else file.read  # a picture must not wait for the next ones
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable


def piped(given: Source) -> Bytes:
    """The bytes of standard input or of a named pipe. Raises `UsageError` when nothing is piped in."""
    if given.place != "-":
        return Bytes(open(given.place, "rb"))
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("standard input is a terminal; pipe a video into it: cat clip.avi | stmn predict MODEL -")
    if sys.stdin.buffer.seekable():
        sys.stdin.buffer.seek(0)
    return Bytes(sys.stdin.buffer)


@contextmanager
def rereadable(given: Source) -> Iterator[Source]:
    """The same video as a source that may be opened several times: what comes through a pipe goes to a file first."""
    if given.kind != "pipe":
        yield given
        return
    with tempfile.NamedTemporaryFile(prefix="stmn-") as file:
        try:
            copyfileobj(piped(given).file, file, 2**20)
            file.flush()
        except OSError as error:
            raise DataError(
                f"{given.name}: can't be kept in {tempfile.gettempdir()}: {error.strerror or error}; "
                f"with --window it need not be"
            ) from error
        if not Path(file.name).stat().st_size:
            raise DataError(f"{given.name}: holds nothing")
        yield Source("file", file.name, given.name)


def live(given: Source) -> bool:
    """True when it has no end that is known beforehand: cameras, and addresses of what is being sent."""
    if given.kind == "camera":
        return True
    if given.kind != "address":
        return False
    if given.place.partition("://")[0].lower() not in OF_FILES:
        return True
    with given.open() as container:
        return (container.duration or 0) <= 0


def reason(error: Exception) -> str:
    """FFmpeg's words without its number and without the path, which the caller names."""
    words = getattr(error, "strerror", None) or str(error)
    return f"no answer within {PATIENCE:g} s" if words == "Immediate exit requested" else words
