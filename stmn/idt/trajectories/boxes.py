"""Boxes around people, whose motion must not be mistaken for the camera's."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.runtime.files import read_text

#: numbers of a box: left, top, right, bottom in pixels, and the detector's confidence
_NUMBERS = 5
#: frame -> (n, 4) left, top, right, bottom
Boxes = Mapping[int, NDArray[np.float32]]


def read_boxes(path: Path) -> Boxes:
    """Read boxes in the original program's format: a line per frame, with its number from 0, then five numbers per box.

    Returns:
        Frame -> (n, 4) left, top, right, bottom in pixels of the video's frame.

    Raises:
        DataError: The file can't be read, or a line has another format.
    """
    boxes: dict[int, NDArray[np.float32]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            frame, values = int(words[0]), np.array(words[1:], np.float32)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: must be a frame number and the numbers of its boxes") from error
        if len(values) % _NUMBERS or not np.isfinite(values).all():
            raise DataError(
                f"{path}, line {number}: {len(values)} numbers after the frame's; a box has five: left, top, right, "
                f"bottom, confidence"
            )
        boxes[frame] = values.reshape(-1, _NUMBERS)[:, :4]
    return boxes


def outside(points: NDArray[np.float32], boxes: NDArray[np.float32] | None) -> NDArray[np.bool_]:
    """(N,) True for points (N, 2) that are in none of the boxes (n, 4)."""
    if boxes is None or not len(boxes):
        return np.ones(len(points), bool)
    x, y = points[:, :1], points[:, 1:]
    left, top, right, bottom = boxes.T
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    free: NDArray[np.bool_] = ~inside.any(axis=1)
    return free
