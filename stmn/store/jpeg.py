"""JPEG of frames and of flow fields (u above v in one grey picture)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg


def encode_frame(frame: Tensor, quality: int) -> bytes:
    """(H, W, 3) RGB uint8 to JPEG."""
    return encode_jpeg(frame.permute(2, 0, 1).contiguous(), quality).numpy().tobytes()


def encode_field(levels: Tensor, quality: int) -> bytes:
    """(2, H, W) levels of u and v to one grey JPEG of 2H rows: half the decodes of two files."""
    return encode_jpeg(levels.reshape(1, -1, levels.shape[-1]), quality).numpy().tobytes()


def decode_frames(blobs: Sequence[bytes]) -> Tensor:
    """JPEG frames of equal size to (N, 3, H, W) uint8."""
    return torch.stack([decode_jpeg(as_tensor(blob), ImageReadMode.RGB) for blob in blobs])


def decode_fields(blobs: Sequence[bytes]) -> Tensor:
    """JPEG flow fields of equal size to (N, 2, H, W) uint8 levels."""
    pictures = torch.stack([decode_jpeg(as_tensor(blob), ImageReadMode.GRAY) for blob in blobs])
    return pictures.unflatten(2, (2, -1)).squeeze(1)


def as_tensor(blob: bytes) -> Tensor:
    """The bytes as a tensor that owns its memory."""
    return torch.frombuffer(bytearray(blob), dtype=torch.uint8)
