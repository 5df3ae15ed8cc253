"""JPEG of frames and of flow fields (u above v in one grey picture).

Pillow writes: its files are the smallest of those at hand, and the same from one machine to the next. simplejpeg reads:
libjpeg-turbo without a detour, into memory that is at hand, and other threads go on meanwhile.
"""

import io
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from simplejpeg import decode_jpeg
from torch import Tensor

Bytes = NDArray[np.uint8]


def encode_frame(frame: Tensor, quality: int) -> bytes:
    """(H, W, 3) RGB uint8 to JPEG, colour at half the resolution (4:2:0)."""
    return encode(frame.numpy(), quality)


def encode_field(levels: Tensor, quality: int) -> bytes:
    """(2, H, W) levels of u and v to one grey JPEG of 2H rows: half the decodes of two files."""
    return encode(levels.reshape(-1, levels.shape[-1]).numpy(), quality)


def encode(picture: Bytes, quality: int) -> bytes:
    """(H, W) or (H, W, 3) to JPEG."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def decode_frame(blob: bytes, memory: Bytes | None = None) -> Bytes:
    """A JPEG frame to (H, W, 3) uint8, in `memory` (flat, large enough) if it is given. Raises `RuntimeError`."""
    return decode(blob, "RGB", memory)


def decode_field(blob: bytes, memory: Bytes | None = None) -> Bytes:
    """A JPEG flow field to (2, H, W) uint8 levels, as `decode_frame`."""
    picture = decode(blob, "GRAY", memory)
    if len(picture) % 2:
        raise RuntimeError(f"a flow field of {len(picture)} rows is no u above v")
    return picture.reshape(2, -1, picture.shape[1])


def decode(blob: bytes, colours: str, memory: Bytes | None) -> Bytes:
    """A JPEG to (H, W, channels). Raises `RuntimeError` when it is damaged, cut short or too large for `memory`."""
    try:
        return decode_jpeg(blob, colours, buffer=memory)
    except ValueError as error:
        raise RuntimeError(str(error)) from error


def decode_frames(blobs: Sequence[bytes]) -> Tensor:
    """JPEG frames of equal size to (N, 3, H, W) uint8. Raises `RuntimeError` when one is damaged."""
    return torch.stack([torch.from_numpy(decode_frame(blob)).permute(2, 0, 1) for blob in blobs])


def decode_fields(blobs: Sequence[bytes]) -> Tensor:
    """JPEG flow fields of equal size to (N, 2, H, W) uint8 levels. Raises `RuntimeError` when one is damaged."""
    return torch.stack([torch.from_numpy(decode_field(blob)) for blob in blobs])
