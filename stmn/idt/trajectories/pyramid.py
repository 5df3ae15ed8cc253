"""Grey frames at all spatial scales."""

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from stmn.errors import MissingExtra

#: each scale is smaller than the one before by this factor
RATIO = 2**0.5

Grey = NDArray[np.uint8]
Field = NDArray[np.float32]


def load_opencv() -> ModuleType:
    """The module cv2. Raises `MissingExtra`."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("idt", "opencv-contrib-python-headless", "opencv") from error
    return cv2


def scale_shapes(height: int, width: int, scales: int, least: int) -> list[tuple[int, int]]:
    """The height and width of each scale, the finest first: those whose sides have at least `least` pixels."""
    ratios = [RATIO**k for k in range(scales) if min(height, width) / RATIO**k >= least]
    return [(round(height / ratio), round(width / ratio)) for ratio in ratios]


def build_pyramid(cv2: ModuleType, grey: Grey, shapes: list[tuple[int, int]]) -> list[Grey]:
    """Resize a grey frame (H, W) to all scales, each from the one before it."""
    levels = [grey]
    for height, width in shapes[1:]:
        levels.append(cv2.resize(levels[-1], (width, height), interpolation=cv2.INTER_LINEAR))
    return levels


def resize_field(cv2: ModuleType, field: Field, shape: tuple[int, int]) -> Field:
    """Resize flow (2, H, W), and convert it to pixels of the new size."""
    if field.shape[1:] == shape:
        return field
    height, width = shape
    by = (width / field.shape[2], height / field.shape[1])
    way = cv2.INTER_AREA if max(by) < 0.7 else cv2.INTER_LINEAR
    resized = np.empty((2, *shape), np.float32)
    for plane, to, factor in zip(field, resized, by, strict=True):
        cv2.resize(plane, (width, height), to, interpolation=way)
        to *= np.float32(factor)
    return resized


def build_flow_pyramid(cv2: ModuleType, field: Field, shapes: list[tuple[int, int]]) -> list[Field]:
    """Resize flow (2, H, W) to all scales, in pixels of each scale, each from the one before it."""
    fields = [resize_field(cv2, np.asarray(field, np.float32), shapes[0])]
    for shape in shapes[1:]:
        fields.append(resize_field(cv2, fields[-1], shape))
    return fields
