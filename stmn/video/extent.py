"""The expected size of a video file in bytes, from the sizes stated in its parts; a smaller file was truncated."""

import os
import struct
from collections.abc import Callable
from typing import BinaryIO

#: values of a size that is not known yet, as in a recording that was never finished
_UNKNOWN_32 = (0, 2**32 - 1)
_ASF_START = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
#: largest number of parts that are read; 18 hours in fragments of a second have as many
_MOST_PARTS = 2**17
#: more bytes than any file has; a header that states more is damaged
_LARGEST_FILE = 2**60

#: maps the first bytes of a part to its whole size in bytes; 0 if they are not the first bytes of a part
_PartSize = Callable[[bytes], int]


def stated_size(file: BinaryIO) -> int:
    """Return the smallest size in bytes of the complete file; 0 for kinds of files that don't state it.

    AVI, MP4, MOV, Matroska, WebM and WMV state sizes. In MPEG-TS, GIF and Ogg only the end can be recognised: if it is
    absent, at least a few bytes are missing.
    """
    start = file.read(197)
    if start[:4] == b"RIFF":
        return _walk(file, _riff_size)
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"):
        return _walk(file, _box_size)
    if start[:16] == _ASF_START:
        return _walk(file, _asf_size)
    if int.from_bytes(start[:4]) == _EBML:
        return _segment_end(file)
    for packet, sync in ((188, 0), (192, 4)):  # MPEG-TS, and its variant of cameras and discs
        if start[sync : sync + 1] == start[sync + packet : sync + packet + 1] == b"G":
            return -(-file.seek(0, os.SEEK_END) // packet) * packet
    if start[:3] == b"GIF":
        size, tail = _read_tail(file, 16)
        return size + (b";" not in tail)  # the trailer
    if start[:4] == b"OggS":
        size, tail = _read_tail(file, 2**16)
        page = tail.rfind(b"OggS")
        return size + (page < 0 or not tail[page + 5 : page + 6] > b"\x03")  # the flag of a stream's last page
    return 0


def _read_tail(file: BinaryIO, length: int) -> tuple[int, bytes]:
    """Return the size of a file, and its last bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - length, 0))
    return size, file.read()


def _walk(file: BinaryIO, size_of: _PartSize) -> int:
    """Return the end of the last part that begins within the file."""
    end = 0
    for _ in range(_MOST_PARTS):
        file.seek(end)
        size = size_of(file.read(24))
        if not size:
            return end
        end += size
        if end > _LARGEST_FILE:
            break
    return 0


def _riff_size(start: bytes) -> int:
    """Return the size of a RIFF list of an AVI file; a large file has several."""
    if len(start) < 12 or start[:4] != b"RIFF" or start[8:11] != b"AVI":
        return 0
    [size] = struct.unpack("<I", start[4:8])
    return 0 if size in _UNKNOWN_32 else 8 + int(size)


def _box_size(start: bytes) -> int:
    """Return the size of a box of an MP4 or MOV file (ISO/IEC 14496-12, section 4.2); 0 if it ends with the file."""
    if len(start) < 8 or not start[4:8].isalnum():
        return 0
    size, header = struct.unpack(">I", start[:4])[0], 8
    if size == 1 and len(start) >= 16:
        [size], header = struct.unpack(">Q", start[8:16]), 16
    return int(size) if size >= header else 0


def _asf_size(start: bytes) -> int:
    """Return the size of an object of a WMV file; it follows sixteen bytes that name the object's kind."""
    if len(start) < 24:
        return 0
    [size] = struct.unpack("<Q", start[16:24])
    return int(size) if 24 <= size < 2**48 else 0


def _segment_end(file: BinaryIO) -> int:
    """Return the end of a Matroska file's segment, which follows the EBML header."""
    file.seek(4)
    header = _read_length(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if int.from_bytes(file.read(4)) != _SEGMENT:
        return 0
    length = _read_length(file)
    return 0 if length is None else file.tell() + length


def _read_length(file: BinaryIO) -> int | None:
    """Read an EBML length (RFC 8794, section 6); None if it is unknown or damaged."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    bits = 7 * (more + 1)
    value = int.from_bytes(first + file.read(more)) & (2**bits - 1)
    return None if value == 2**bits - 1 else value
