"""The parity check that every file must pass before it gets its final name."""

from collections.abc import Iterable, Sequence
from itertools import product
from math import isfinite

import torch
from torch import Tensor

from stmn.errors import StmnError
from stmn.exporting.base import Runner, example_inputs
from stmn.nets.checkpoint import Description
from stmn.nets.network import Network
from stmn.runtime.precision import exact_float32

#: precision of a file -> the largest difference allowed, relative to the largest logit; float16 has 11 bits; files in
#: int8 are judged by their accuracy
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "int8": torch.inf}
#: added to a message about float16 files with infinite or undefined outputs
_OVERFLOW = "; an infinite or undefined output means numbers too large for float16, which ends at 65504"


@torch.inference_mode()
def check_parity(
    network: Network, description: Description, run: Runner, precision: str = "float32",
    real: Iterable[Sequence[Tensor]] = (),
) -> float:  # fmt: skip
    """Compare a file's outputs with the network's for several batch sizes, numbers of chunks and frame sizes.

    Args:
        network: The network. It is set to evaluation mode.
        description: Its description.
        run: Runs the file.
        precision: The file's precision; `TOLERANCES` has the difference that is allowed.
        real: Inputs from videos, (B, T, channels, H, W) for each stream, to compare on besides random ones.

    Returns:
        The largest difference found, relative to the largest logit.

    Raises:
        StmnError: The file doesn't run, or its outputs differ too much.
    """
    network.eval()
    sizes = product((1, 3), (1, 5), (0, 32))
    random = (example_inputs(network, description, batch, chunks, wider) for batch, chunks, wider in sizes)
    worst = 0.0
    for given in (*random, *real):
        with exact_float32():
            expected = network(*given)
        try:
            got = run(given)
        except Exception as error:  # any runtime raises its own errors
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise StmnError(f"export: parity check failed: the written file does not run: {first}") from error
        worst = max(worst, _compare(expected, got, precision))
    return worst


def network_runner(network: Network) -> Runner:
    """A runner of the network itself, in evaluation mode."""
    network.eval()

    @torch.inference_mode()
    def run(given: Sequence[Tensor]) -> list[Tensor]:
        with exact_float32():
            return list(network(*given))

    return run


def _compare(expected: Sequence[Tensor], got: Sequence[Tensor], precision: str) -> float:
    """The largest difference of any output, relative to its largest logit. Raises `StmnError` above the tolerance."""
    shapes = [[tuple(output.shape) for output in outputs] for outputs in (expected, got)]
    if shapes[0] != shapes[1]:
        raise StmnError(f"export: parity check failed: outputs of shapes {shapes[1]}, expected {shapes[0]}")
    worst, tolerance = 0.0, TOLERANCES[precision]
    for ours, theirs in zip(expected, got, strict=True):
        difference = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-6))
        if not (difference <= tolerance and isfinite(difference)):
            overflow = _OVERFLOW if precision == "float16" and not isfinite(difference) else ""
            raise StmnError(
                f"export: parity check failed: outputs differ by {difference:.1e} of the largest, and {tolerance:.0e} "
                f"is allowed; no file was written{overflow}"
            )
        worst = max(worst, difference)
    return worst
