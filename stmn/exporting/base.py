"""The contract of an exporter, and the parity check that every file passes before it gets its final name."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from stmn.errors import StmnError
from stmn.nets.checkpoint import Description
from stmn.nets.network import Network
from stmn.sampling.augment import short_side_for_test

#: what a written file is run as: the streams' inputs to the streams' scores
Runner = Callable[[Sequence[Tensor]], list[Tensor]]


class Exporter(Protocol):
    """Writes a network to one file and can run that file."""

    suffix: str

    def write(self, network: Network, description: Description, example: Sequence[Tensor], path: Path) -> None:
        """Write the file; `example` holds a batch for each stream, all of whose sizes but the planes may vary."""

    def runner(self, path: Path) -> Runner:
        """Load the written file, to be run."""


def example_inputs(network: Network, description: Description, batch: int, chunks: int, wider: int = 0) -> list[Tensor]:
    """Random inputs of the test protocol's size: (batch, chunks, planes, H, W) for each stream."""
    config = description.network
    side = short_side_for_test(config.size, description.keeps)
    generator = torch.Generator().manual_seed(batch * 100 + chunks)
    return [
        torch.randn(batch, chunks, config.in_channels(stream.modality), side, side + wider, generator=generator)
        for stream in config.streams
    ]


@torch.inference_mode()
def check_parity(network: Network, description: Description, run: Runner, tolerance: float = 1e-3) -> float:
    """Compare a file's outputs with the network's on several batch sizes, clip lengths and frame sizes.

    Returns the largest difference over the largest score. Raises `StmnError` when it is above `tolerance`.
    """
    network.eval()
    worst = 0.0
    for batch, chunks, wider in product((1, 3), (2, 5), (0, 32)):
        given = example_inputs(network, description, batch, chunks, wider)
        expected = network(*given)
        try:
            got = run(given)
        except Exception as error:  # whatever the format's runtime raises
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise StmnError(f"export: parity check failed: the written file does not run: {first}") from error
        shapes = [[tuple(output.shape) for output in outputs] for outputs in (expected, got)]
        if shapes[0] != shapes[1]:
            raise StmnError(f"export: parity check failed: outputs of shapes {shapes[1]}, expected {shapes[0]}")
        for ours, theirs in zip(expected, got, strict=True):
            difference = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-6))
            if not difference <= tolerance:  # also catches NaN
                raise StmnError(
                    f"export: parity check failed: outputs differ by {difference:.1e} of their size; "
                    "no file was written"
                )
            worst = max(worst, difference)
    return worst
