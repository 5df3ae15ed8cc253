"""Import frames and flow that other programs have extracted. Nothing is computed again."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from stmn.datasets.base import JpegFiles
from stmn.errors import DataError
from stmn.runtime.files import read_regular
from stmn.store.format.header import Preparation
from stmn.store.format.jpeg import decode_frames, encode_field
from stmn.store.format.shard import FLOW, RGB
from stmn.store.format.write import PictureWriter, VideoFacts


def import_jpegs(files: JpegFiles, writer: PictureWriter, how: Preparation) -> VideoFacts:
    """Store the frames byte for byte, and u and v as one picture at JPEG quality `how.quality`.

    Raises:
        DataError: There are fewer than two frames, a file can't be read, its size differs from the first frame's, or
            the short side differs from the set's.
    """
    if len(files.frames) < 2:
        raise DataError(f"{files.frames[0]}: a single frame; flow needs two")
    source = hashlib.sha256()
    height = width = 0
    for t, path in enumerate(files.frames):
        jpeg, frame = _read_jpeg(path)
        source.update(jpeg)
        if t == 0:
            height, width = frame.shape[-2:]
            if min(height, width) != how.short_side:
                raise DataError(
                    f"{path}: is {width}x{height}, but the short side of this set is {how.short_side} (--short-side)"
                )
        _check_size(path, frame, height, width)
        writer.add(RGB, t, jpeg)
    for t, u_and_v in enumerate(zip(files.u, files.v, strict=True)):
        components = []
        for path in u_and_v:
            jpeg, component = _read_jpeg(path)
            source.update(jpeg)
            _check_size(path, component, height, width)
            components.append(component[0])  # grey: its three channels are equal
        writer.add(FLOW, t, encode_field(torch.stack(components), how.quality))
    return VideoFacts(
        len(files.frames), width, height, width, height, 0.0, source.hexdigest(), how.flow, how.bound
    )  # fmt: skip


def _read_jpeg(path: Path) -> tuple[bytes, Tensor]:
    """Return a file's bytes, and its pixels as (3, H, W) uint8."""
    try:
        jpeg = read_regular(path)
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error
    try:
        return jpeg, decode_frames([jpeg])[0]
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path}: not a readable JPEG") from error


def _check_size(path: Path, picture: Tensor, height: int, width: int) -> None:
    """Raise `DataError` if a picture has another size than the video's first frame."""
    if tuple(picture.shape[-2:]) != (height, width):
        raise DataError(
            f"{path}: is {picture.shape[-1]}x{picture.shape[-2]}, but the video's first frame is {width}x{height}"
        )
