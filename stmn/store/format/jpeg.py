"""JPEG of frames, and of flow fields (u above v in one grey picture).

Pillow encodes: its files are the smallest of the available libraries, and the same on every machine. simplejpeg
decodes: it wraps libjpeg-turbo, writes into memory that is already allocated, and releases the GIL.
"""

import io
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from simplejpeg import decode_jpeg, decode_jpeg_header
from torch import Tensor

from stmn.video.limits import LARGEST, MAX_PIXELS

Bytes = NDArray[np.uint8]


def encode_frame(frame: Tensor, quality: int) -> bytes:
    """Encode a frame, (H, W, 3) RGB uint8, with colour at half the resolution (4:2:0)."""
    return _encode(frame.numpy(), quality)


def encode_field(levels: Tensor, quality: int) -> bytes:
    """Encode a flow field, (2, H, W) uint8 levels of u and v, as one grey JPEG of 2H rows: one decode, not two."""
    return _encode(levels.reshape(-1, levels.shape[-1]).numpy(), quality)


def decode_frame(jpeg: bytes, memory: Bytes | None = None) -> Bytes:
    """Decode a frame.

    Args:
        jpeg: The file's bytes.
        memory: Where to put the pixels, flat and large enough; newly allocated by default.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        RuntimeError: The JPEG is damaged, cut short, or too large for `memory`.
    """
    return _decode(jpeg, "RGB", memory)


def decode_field(jpeg: bytes, memory: Bytes | None = None) -> Bytes:
    """Decode a flow field.

    Args:
        jpeg: The file's bytes.
        memory: Where to put the levels, flat and large enough; newly allocated by default.

    Returns:
        (2, H, W) uint8 levels of u and v.

    Raises:
        RuntimeError: The JPEG is damaged, cut short, too large for `memory`, or has an odd number of rows.
    """
    picture = _decode(jpeg, "GRAY", memory)
    if len(picture) % 2:
        raise RuntimeError(f"a flow field needs an even number of rows, not {len(picture)}")
    return picture.reshape(2, -1, picture.shape[1])


def decode_frames(jpegs: Sequence[bytes]) -> Tensor:
    """Decode frames of equal size to (N, 3, H, W) uint8. Raises `RuntimeError` if one is damaged."""
    return torch.stack([torch.from_numpy(decode_frame(jpeg)).permute(2, 0, 1) for jpeg in jpegs])


def decode_fields(jpegs: Sequence[bytes]) -> Tensor:
    """Decode flow fields of equal size to (N, 2, H, W) uint8 levels. Raises `RuntimeError` if one is damaged."""
    return torch.stack([torch.from_numpy(decode_field(jpeg)) for jpeg in jpegs])


def _encode(picture: Bytes, quality: int) -> bytes:
    """Encode (H, W) grey or (H, W, 3) RGB."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _decode(jpeg: bytes, colours: str, memory: Bytes | None) -> Bytes:
    """Decode to (H, W, channels)."""
    try:
        if memory is None:
            height, width, *_ = decode_jpeg_header(jpeg)
            if height * width > MAX_PIXELS:
                raise RuntimeError(f"{width}x{height} pixels are more than {LARGEST}")
        picture: Bytes = decode_jpeg(jpeg, colours, buffer=memory)
    except ValueError as error:
        raise RuntimeError(str(error)) from error
    return picture
