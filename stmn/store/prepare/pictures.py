"""Take frames and flow that others have extracted into a shard, without computing anything anew."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from stmn.datasets.base import Pictures
from stmn.errors import DataError
from stmn.store.format.header import Preparation
from stmn.store.format.jpeg import decode_frames, encode_field
from stmn.store.format.writer import FLOW, RGB, VideoFacts, VideoWriter


def import_pictures(pictures: Pictures, writer: VideoWriter, how: Preparation) -> VideoFacts:
    """Store the frames byte for byte, and u and v, which share a picture here, at JPEG quality `how.quality`.

    Raises `DataError` when a picture can't be read, has another size than the first, or another short side than the
    set's, or when there are not two frames.
    """
    if len(pictures.frames) < 2:
        raise DataError(f"{pictures.frames[0]}: a single frame; flow needs two")
    source = hashlib.sha256()
    height = width = 0
    for t, path in enumerate(pictures.frames):
        blob, frame = read(path)
        source.update(blob)
        if t == 0:
            height, width = frame.shape[-2:]
            if min(height, width) != how.short_side:
                raise DataError(
                    f"{path}: is {width}x{height}; the short side of this set is {how.short_side} (--short-side)"
                )
        check_size(path, frame, height, width)
        writer.add(RGB, t, blob)
    for t, both in enumerate(zip(pictures.u, pictures.v, strict=True)):
        planes = []
        for path in both:
            blob, plane = read(path)
            source.update(blob)
            check_size(path, plane, height, width)
            planes.append(plane[0])  # grey: all channels are alike
        writer.add(FLOW, t, encode_field(torch.stack(planes), how.quality))
    return VideoFacts(
        len(pictures.frames), width, height, width, height, 0.0, source.hexdigest(), how.flow, how.bound
    )  # fmt: skip


def read(path: Path) -> tuple[bytes, Tensor]:
    """A picture's bytes, and its (3, H, W) uint8 levels. Raises `DataError` when it is no readable JPEG."""
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error
    try:
        return blob, decode_frames([blob])[0]
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path}: is no readable JPEG") from error


def check_size(path: Path, picture: Tensor, height: int, width: int) -> None:
    """Raise `DataError` when a picture has another size than the video's first frame."""
    if tuple(picture.shape[-2:]) != (height, width):
        raise DataError(
            f"{path}: is {picture.shape[-1]}x{picture.shape[-2]}, but the video's first frame {width}x{height}"
        )
