"""Flow along a stream of frames, a batch of pairs at a time, in this process or elsewhere through a `FieldMaker`."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmn.flow.grey import to_grey
from stmn.flow.quantise import quantise, subtract_camera

#: a flow plugin: maps (B, H, W), (B, H, W) grey in 0..255 to (B, 2, H, W) pixels
FlowFunction = Callable[[Tensor, Tensor], Tensor]


class FieldMaker(Protocol):
    """Makes flow levels from frames, at once or in the background."""

    @property
    def ahead(self) -> int:
        """Number of chains that may be started before the first of them is collected."""

    def pairs_at_a_time(self, height: int, width: int) -> int:
        """Return the largest number of pairs in a chain of frames of this size."""

    def start(self, chain: Tensor) -> Callable[[], Tensor]:
        """Start computing the flow between successive frames.

        Args:
            chain: (n + 1, H, W, 3) RGB uint8, n >= 1.

        Returns:
            A function that waits for the levels, (n, 2, H, W) uint8, and raises any error.
        """


@dataclass(frozen=True)
class LocalFields:
    """Computes flow in this process.

    Attributes:
        flow: The estimator.
        bound: Flow is clipped to +- this many pixels.
        camera_motion: "subtract" subtracts each field's median motion, "keep" keeps it.
        device: The device on which the estimator gets the frames.
    """

    flow: FlowFunction
    bound: float
    camera_motion: str
    device: torch.device | str = "cpu"
    ahead: int = 0

    def pairs_at_a_time(self, height: int, width: int) -> int:
        """Return 16; memory holds one more frame."""
        return 16

    def start(self, chain: Tensor) -> Callable[[], Tensor]:
        """Compute at once."""
        levels = compute_levels(chain.to(self.device), self.flow, self.bound, self.camera_motion).cpu()
        return lambda: levels


def compute_levels(
    frames: Tensor, flow: FlowFunction, bound: float, camera_motion: str, chains: Sequence[int] = ()
) -> Tensor:
    """Compute flow levels on the frames' device.

    Args:
        frames: (N, H, W, 3) RGB uint8: one chain of successive frames, or several chains of one size, concatenated.
        flow: The estimator.
        bound: Flow is clipped to +- this many pixels.
        camera_motion: "subtract" subtracts each field's median motion, "keep" keeps it.
        chains: Number of frames of each chain; empty for a single chain.

    Returns:
        (N - chains, 2, H, W) uint8: the fields of the first chain, then those of the next one.
    """
    luma = to_grey(frames)
    if len(chains) > 1:
        parts = luma.split(list(chains))
        pixels = flow(torch.cat([part[:-1] for part in parts]), torch.cat([part[1:] for part in parts]))
    else:
        pixels = flow(luma[:-1], luma[1:])
    if camera_motion == "subtract":
        pixels = subtract_camera(pixels)
    return quantise(pixels, bound)


def frames_and_flow(frames: Iterable[NDArray[np.uint8]], fields: FieldMaker) -> Iterator[tuple[Tensor, Tensor]]:
    """Compute the flow between successive frames.

    Args:
        frames: (H, W, 3) RGB uint8, one after another.
        fields: Computes the flow. For each of its chains, memory holds its pairs at a time and one more frame.

    Yields:
        Frames (n, H, W, 3) uint8 and flow levels (m, 2, H, W) uint8, in order. For a video of N frames, n sums to N and
        m to N - 1.

    Raises:
        ValueError: The size of the frames changes.
    """
    last: Tensor | None = None
    waiting: list[NDArray[np.uint8]] = []
    begun: deque[tuple[Tensor, Callable[[], Tensor]]] = deque()

    def begin() -> None:
        nonlocal last
        new = torch.from_numpy(np.stack(waiting))
        chain = new if last is None else torch.cat([last[None], new])
        none = new.new_empty(0, 2, *new.shape[1:3])
        begun.append((new, fields.start(chain) if len(chain) > 1 else lambda: none))
        last = new[-1]
        waiting.clear()

    def finish() -> tuple[Tensor, Tensor]:
        new, collect = begun.popleft()
        return new, collect()

    try:
        for frame in frames:
            waiting.append(frame)
            if len(waiting) >= fields.pairs_at_a_time(*frame.shape[:2]) + (last is None):
                begin()
                while len(begun) > fields.ahead:
                    yield finish()
        if waiting:
            begin()
        while begun:
            yield finish()
    finally:
        while begun:  # after an error: chains in progress still use shared memory
            with suppress(Exception):
                finish()
