"""Frames and flow as other programs write them: JPEG files in the two known layouts."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers.films import Picture

#: (2, H, W) pixels of u and v
Field = NDArray[np.float64]


def levels(flow: NDArray[np.float64], bound: float) -> Picture:
    """8-bit levels, as both well-known extractors write them."""
    clipped = np.clip(flow, -bound, bound)
    return np.round(255 * (clipped + bound) / (2 * bound)).astype(np.uint8)


def save(path: Path, picture: Picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=95)


def two_stream(root: Path, video: str, frames: list[Picture], fields: list[Field], bound: float = 20) -> None:
    """`jpegs_256/VIDEO/frame000001.jpg`, `tvl1_flow/{u,v}/VIDEO/frame000001.jpg`."""
    for number, frame in enumerate(frames, 1):
        save(root / "jpegs_256" / video / f"frame{number:06d}.jpg", frame)
    for number, (u, v) in enumerate(fields, 1):
        save(root / "tvl1_flow" / "u" / video / f"frame{number:06d}.jpg", levels(u, bound))
        save(root / "tvl1_flow" / "v" / video / f"frame{number:06d}.jpg", levels(v, bound))


def tsn(root: Path, video: str, frames: list[Picture], fields: list[Field], bound: float = 20, first: int = 1) -> None:
    """`VIDEO/img_00001.jpg`, `VIDEO/flow_x_00001.jpg`, `VIDEO/flow_y_00001.jpg`."""
    for number, frame in enumerate(frames, first):
        save(root / video / f"img_{number:05d}.jpg", frame)
    for number, (u, v) in enumerate(fields, first):
        save(root / video / f"flow_x_{number:05d}.jpg", levels(u, bound))
        save(root / video / f"flow_y_{number:05d}.jpg", levels(v, bound))
