"""Open videos with FFmpeg, and let it read only what was named.

A video file is untrusted. FFmpeg's playlists (HLS, concat, SDP, ...) read other files and addresses, a name
such as `%05d.jpg` stands for several files, and a header may announce pictures of any size.
"""

import io
from functools import cache
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.format import ContainerFormat

from stmn.runtime.files import check_regular, open_regular
from stmn.runtime.platforms import PASSES_DESCRIPTORS
from stmn.video.limits import MAX_PIXELS

#: published data sets have metadata in unknown encodings, which must not prevent reading the frames
_METADATA_ERRORS = "replace"
#: FFmpeg's formats that open other files or addresses, given in their content or name
_REFERRING = frozenset({
    "avisynth", "concat", "dash", "hls", "image2", "imf", "lavfi", "libopenmpt", "rtp", "rtsp", "sap", "sdp",
    "svg_pipe", "vapoursynth", "vobsub", "webm_dash_manifest",
})  # fmt: skip
#: those that are allowed for an address: they lead to other addresses
_STREAMED = frozenset({"dash", "hls", "rtp", "rtsp", "sap", "sdp"})
#: schemes that an address may have, and that a stream at an address may lead to
SCHEMES = frozenset({
    "http", "https", "ftp", "sftp", "rtsp", "rtsps", "rtmp", "rtmpe", "rtmps", "rtmpt", "rtmpte", "rtmpts", "rtp",
    "srtp", "udp", "udplite", "tcp", "srt", "mms", "mmsh", "mmst", "rist", "zmq", "amqp",
})  # fmt: skip
#: protocols that these build on
_CARRIERS = frozenset({"tls", "httpproxy", "crypto", "ffrtmpcrypt", "ffrtmphttp"})
#: limits for FFmpeg: streams in a file, bytes to identify them, pixels
_BOUNDS = {"max_streams": "200", "probesize": str(5 * 10**6), "max_pixels": str(MAX_PIXELS)}


def open_file(path: Path) -> InputContainer:
    """Open a file, but nothing that it refers to. Raises `OSError`, `FFmpegError` or `ValueError`."""
    if not PASSES_DESCRIPTORS:
        check_regular(path)
        return _open(f"file:{path.absolute()}", "file", frozenset())
    with open_regular(path) as file:  # FFmpeg gets no name: it would take some names as patterns or protocols
        return _open("fd:", "fd", frozenset(), fd=str(file.fileno()))


def open_bytes(file: Any) -> InputContainer:
    """Open the bytes of an object with `read`. Raises `FFmpegError` or `ValueError`."""
    return _open(file, "none", frozenset())


def open_listed(concat: bytes) -> InputContainer:
    """Open a sequence of pictures.

    Args:
        concat: An ffconcat script that names the files; their headers have been checked.

    Raises:
        FFmpegError, ValueError: They can't be opened.
    """
    pictures = {name for name in _plain_formats() if name.endswith("_pipe")} | {"concat", "image2"}
    bounds = _BOUNDS | {"safe": "0", "protocol_whitelist": "file", "format_whitelist": ",".join(sorted(pictures))}
    container = av.open(io.BytesIO(concat), "r", format="concat", options=bounds)
    limit_pixels(container)
    return container


def open_address(address: str, timeout: float) -> InputContainer:
    """Open an address, which may lead to other addresses but not to files. Raises `FFmpegError` or `ValueError`.

    Args:
        address: It begins with one of `SCHEMES`.
        timeout: Seconds to wait for an answer, and for the next frame.
    """
    return _open(address, ",".join(sorted(SCHEMES | _CARRIERS)), _STREAMED, timeout)


def is_picture(container: InputContainer) -> bool:
    """True if an open file has a picture format, animated or not."""
    name = container.format.name
    return name.endswith("_pipe") or name in ("gif", "apng", "jpegxl_anim")


def limit_pixels(container: InputContainer) -> None:
    """Make the decoders of an open video refuse pictures of more than `MAX_PIXELS`."""
    for stream in container.streams.video:
        if stream.codec_context:
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}


def _open(
    what: Any, protocols: str, also: frozenset[str], timeout: float | None = None, **options: str
) -> InputContainer:  # fmt: skip
    """Open with FFmpeg, allowing only `protocols`, and the harmless formats together with the formats `also`."""
    bounds = _BOUNDS | {"protocol_whitelist": protocols, "format_whitelist": ",".join(sorted(_plain_formats() | also))}
    container: InputContainer = av.open(
        what, "r", metadata_errors=_METADATA_ERRORS, options=bounds | options, timeout=timeout
    )
    limit_pixels(container)
    return container


@cache
def _plain_formats() -> frozenset[str]:
    """Return the formats that this FFmpeg reads and that don't refer to anything else."""
    known = set()
    for name in av.formats_available:
        try:
            names = ContainerFormat(name, "r").name.split(",")
        except ValueError:  # a write-only format
            continue
        if not _REFERRING & set(names):
            known.update(names)
    return frozenset(known)
