"""Flow along a stream of frames, a batch of pairs at a time."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmn.flow.grey import to_grey
from stmn.flow.quantise import quantise, subtract_camera

#: a flow plugin: (B, H, W), (B, H, W) grey in 0..255 to (B, 2, H, W) pixels
FlowFunction = Callable[[Tensor, Tensor], Tensor]


def frames_and_flow(
    frames: Iterable[NDArray[np.uint8]], flow: FlowFunction, bound: float, camera_motion: str, batch: int = 16
) -> Iterator[tuple[Tensor, Tensor]]:
    """Compute the flow between successive frames.

    Args:
        frames: (H, W, 3) RGB uint8, one after another.
        flow: The estimator.
        bound: Flow is clipped to +- this many pixels.
        camera_motion: "subtract" subtracts each field's median motion, "keep" keeps it.
        batch: Pairs estimated at a time; memory holds one frame more.

    Yields:
        Frames (n, H, W, 3) uint8 and flow levels (m, 2, H, W) uint8, in order. Over a video of N frames the n add up to
        N and the m to N - 1.

    Raises:
        ValueError: The size of the frames changes.
    """
    last: Tensor | None = None
    waiting: list[NDArray[np.uint8]] = []

    def emit() -> tuple[Tensor, Tensor]:
        nonlocal last
        new = torch.from_numpy(np.stack(waiting))
        chain = new if last is None else torch.cat([last[None], new])
        luma = to_grey(chain)
        height, width = luma.shape[1:]
        pixels = flow(luma[:-1], luma[1:]) if len(chain) > 1 else torch.zeros(0, 2, height, width)
        if camera_motion == "subtract" and len(pixels):
            pixels = subtract_camera(pixels)
        last = new[-1]
        waiting.clear()
        return new, quantise(pixels, bound)

    for frame in frames:
        waiting.append(frame)
        if len(waiting) >= batch + (last is None):
            yield emit()
    if waiting:
        yield emit()
