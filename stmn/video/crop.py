"""Cropping that is stated only in a video's container; FFmpeg's decoders don't apply it.

MP4 and MOV have it in `clap` (ISO/IEC 14496-12, section 12.1.4), Matroska in `PixelCrop` (RFC 9559, section 5.1.4.1).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stmn.runtime.files import open_regular

#: longest description of an MP4's tracks that is read, and length of a Matroska file's head that has it, in bytes
_LONGEST_MOOV, _MATROSKA_HEAD = 2**26, 2**20
#: boxes of an MP4 that are searched for that description
_MOST_BOXES = 2**16
#: bytes of a video's sample entry before the boxes in it
_SAMPLE_ENTRY = 78
_EBML, _SEGMENT, _TRACKS, _ENTRY, _TYPE, _VIDEO = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0xE0
#: PixelCropLeft, Top, Right, Bottom
_CROPS = (0x54CC, 0x54BB, 0x54DD, 0x54AA)


class Crop(NamedTuple):
    """Pixels to leave out at each side of the stored picture."""

    left: int
    top: int
    right: int
    bottom: int


def find_crop(path: Path, track: int) -> Crop | None:
    """Return the cropping of a video track; None if there is none. `track` is its number among video tracks, from 0."""
    try:
        with open_regular(path) as file:
            start = file.read(8)
            if int.from_bytes(start[:4]) == _EBML:
                file.seek(0)
                crops = list(_matroska_crops(file.read(_MATROSKA_HEAD)))
            elif start[4:] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
                crops = list(_mp4_crops(file))
            else:
                return None
    except (OSError, struct.error, IndexError, ArithmeticError):  # a damaged description
        return None
    crop = crops[track] if track < len(crops) else None
    return crop if crop and any(crop) and min(crop) >= 0 else None


def _mp4_crops(file: BinaryIO) -> Iterator[Crop | None]:
    """Yield the cropping in the `clap` of each video track of an MP4 file."""
    at, kind, size = 0, b"", 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        header = file.read(16)
        size, kind = struct.unpack(">I4s", header[:8])
        if size == 1:
            [size] = struct.unpack(">Q", header[8:])
        if kind == b"moov" or size < 8:
            break
        at += size
    if kind != b"moov":
        return
    file.seek(at + 8)
    moov = file.read(min(size - 8, _LONGEST_MOOV))
    for name, track in _boxes(moov):
        if name != b"trak":
            continue
        media = _inside(track, b"mdia")
        if _inside(media, b"hdlr")[8:12] == b"vide":
            description = _inside(media, b"minf", b"stbl", b"stsd")[8:]
            [(_, entry), *_] = [*_boxes(description), (b"", b"")]
            width, height = struct.unpack(">HH", entry[24:28])
            clap = _inside(entry[_SAMPLE_ENTRY:], b"clap")
            yield _read_clap(clap, width, height) if clap else None


def _read_clap(clap: bytes, width: int, height: int) -> Crop:
    """Return the cropping of a clean aperture, which states its size and its centre's offset from the picture's."""
    values = struct.unpack(">IIIIiIiI", clap[:32])
    clean_width, clean_height, right, down = (a / b for a, b in zip(values[::2], values[1::2], strict=True))
    left = round((width - clean_width) / 2 + right)
    top = round((height - clean_height) / 2 + down)
    return Crop(left, top, width - left - round(clean_width), height - top - round(clean_height))


def _inside(data: bytes, *path: bytes) -> bytes:
    """Return the content of the box that a path of names leads to; empty if there is none."""
    for name in path:
        data = next((content for found, content in _boxes(data) if found == name), b"")
    return data


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each of a sequence of boxes."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        if size < 8:
            return
        yield name, data[at + 8 : at + size]
        at += size


def _matroska_crops(data: bytes) -> Iterator[Crop | None]:
    """Yield the cropping in the `PixelCrop`s of each video track of a Matroska file; `data` is the file's beginning."""
    for segment, content in _elements(data):
        for name, tracks in _elements(content) if segment == _SEGMENT else ():
            if name != _TRACKS:
                continue
            for kind, entry in _elements(tracks):
                values = dict(_elements(entry)) if kind == _ENTRY else {}
                if int.from_bytes(values.get(_TYPE, b"")) == 1:  # a video track
                    video = dict(_elements(values.get(_VIDEO, b"")))
                    yield Crop(*(int.from_bytes(video.get(side, b"")) for side in _CROPS))
            return


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each of a sequence of elements (RFC 8794); one of unknown size takes the rest."""
    at = 0
    while at < len(data) and data[at]:
        name_end = at + 9 - data[at].bit_length()
        name = int.from_bytes(data[at:name_end])
        if name_end >= len(data) or not data[name_end]:
            return
        start = name_end + 9 - data[name_end].bit_length()
        bits = 7 * (start - name_end)
        size = int.from_bytes(data[name_end:start]) & (2**bits - 1)
        end = len(data) if size == 2**bits - 1 else start + size
        yield name, data[start:end]
        at = end
