"""The exporter plugin contract, and the parity check that every file must pass before it gets its name."""

from collections.abc import Callable, Sequence
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from stmn.errors import StmnError
from stmn.nets.checkpoint import Description
from stmn.nets.network import Network
from stmn.runtime.precision import exact_float32

#: runs a written file: each stream's input to each output's logits
Runner = Callable[[Sequence[Tensor]], list[Tensor]]

#: precision of a file -> the largest difference allowed, relative to the largest logit; float16 has 11 bits
TOLERANCES = {"float32": 1e-3, "float16": 1e-2}
#: what a number that float16 can't hold becomes
_OVERFLOW = "; an infinite or undefined output means numbers too large for float16, which ends at 65504"


class Exporter(Protocol):
    """Writes a network to one file and runs that file.

    Attributes:
        suffix: The ending of the file's name, such as ".onnx".

    An exporter that can also write float16 has `precisions = ("float32", "float16")`, and its `write` takes
    `precision` as a keyword. It is passed only if it is not float32.
    """

    suffix: str

    def write(self, network: Network, description: Description, example: Sequence[Tensor], path: Path) -> None:
        """Write the file.

        Args:
            network: The network.
            description: Its classes, preprocessing and plugins.
            example: A batch for each stream, (B, T, channels, H, W). All sizes except the channels must stay free.
            path: Where to write.
        """

    def runner(self, path: Path) -> Runner:
        """Load the written file to run it."""


def example_inputs(network: Network, description: Description, batch: int, chunks: int, wider: int = 0) -> list[Tensor]:
    """Random inputs of the size that the test protocol uses.

    Args:
        network: The network.
        description: Its description.
        batch: B, the number of videos.
        chunks: T, the chunks of each.
        wider: Pixels by which the frames are wider than high.

    Returns:
        (B, T, channels, H, W) for each stream.
    """
    config = description.network
    side = description.test_short_side
    generator = torch.Generator().manual_seed(batch * 100 + chunks)
    return [
        torch.randn(batch, chunks, config.in_channels(stream.modality), side, side + wider, generator=generator)
        for stream in config.streams
    ]


@torch.inference_mode()
def check_parity(network: Network, description: Description, run: Runner, tolerance: float = 1e-3) -> float:
    """Compare a file's outputs with the network's for several batch sizes, numbers of chunks and frame sizes.

    Args:
        network: The network. It is set to evaluation mode.
        description: Its description.
        run: Runs the file.
        tolerance: The largest difference allowed, relative to the largest logit: one of `TOLERANCES`.

    Returns:
        The largest difference found, relative to the largest logit.

    Raises:
        StmnError: The file does not run, or its outputs differ.
    """
    network.eval()
    worst = 0.0
    for batch, chunks, wider in product((1, 3), (2, 5), (0, 32)):
        given = example_inputs(network, description, batch, chunks, wider)
        with exact_float32():
            expected = network(*given)
        try:
            got = run(given)
        except Exception as error:  # any runtime raises its own errors
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise StmnError(f"export: parity check failed: the written file does not run: {first}") from error
        shapes = [[tuple(output.shape) for output in outputs] for outputs in (expected, got)]
        if shapes[0] != shapes[1]:
            raise StmnError(f"export: parity check failed: outputs of shapes {shapes[1]}, expected {shapes[0]}")
        for ours, theirs in zip(expected, got, strict=True):
            difference = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-6))
            if not difference <= tolerance:  # also catches NaN
                overflow = _OVERFLOW if tolerance == TOLERANCES["float16"] and not isfinite(difference) else ""
                raise StmnError(
                    f"export: parity check failed: outputs differ by {difference:.1e} of the largest; "
                    f"no file was written{overflow}"
                )
            worst = max(worst, difference)
    return worst
