"""A network as one program of torch.export, with free batch size, number of chunks, height and width."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stmn.errors import StmnError, is_out_of_memory
from stmn.nets.fast.folding import fold_batch_norms
from stmn.nets.network import Network

#: the PyTorch version needed: earlier versions of torch.export fix whether a size at a max pooling is even or odd
_NEEDED = "2.13"
#: the axes of an input that stay free
AXES = {0: "batch", 1: "chunks", 3: "height", 4: "width"}


class _Program(nn.Module):
    """A network whose inputs are declared to agree in all free sizes; otherwise comparing them takes a minute."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *videos: Tensor) -> tuple[Tensor, ...]:
        """The network's logits."""
        for video in videos[1:]:
            for axis in AXES:
                torch._check(video.shape[axis] == videos[0].shape[axis])
        logits: tuple[Tensor, ...] = self.network(*videos)
        return logits


def make_program(network: Network, example: Sequence[Tensor]) -> Any:
    """Make the program of a network in evaluation mode, with batch normalisations folded into convolutions.

    Args:
        network: The network; it is not changed.
        example: A batch for each stream, (B, T, channels, H, W), with each size 2 or more.

    Returns:
        A `torch.export.ExportedProgram`. It takes any B and T, and frames of at least the training crop's size.

    Raises:
        StmnError: PyTorch is too old, or the network has a part that fixes a size or that torch.export can't express.
    """
    if torch.__version__ < _NEEDED:  # compared as versions, not as text
        raise StmnError(
            f"export: needs PyTorch {_NEEDED} or newer, and this is {torch.__version__}: pip install 'stmn[export]'"
        )
    dims = {axis: torch.export.Dim(name, min=_smallest(axis, network)) for axis, name in AXES.items()}
    module = _Program(fold_batch_norms(network)).eval()
    try:
        with torch.no_grad(), _sizes_of_one():
            program = torch.export.export(module, tuple(example), dynamic_shapes=(tuple(dims for _ in example),))
    except Exception as error:  # torch.export passes on errors of any part of the network
        if is_out_of_memory(error):
            raise
        first = next(iter(str(error).split("\n")), "") or type(error).__name__
        raise StmnError(f"export: torch.export can't express this network with free sizes: {first[:300]}") from error
    program._guards_code = []  # they only still exclude sizes of one, which the parity check covers
    return program


def _smallest(axis: int, network: Network) -> int:
    """The smallest size along an axis of an input."""
    return network.config.size if AXES[axis] in ("height", "width") else 1


@contextmanager
def _sizes_of_one() -> Iterator[None]:
    """Let free sizes also be one; by default torch.export makes a separate program for that."""
    from torch.fx.experimental import _config

    config: Any = _config
    with config.patch(backed_size_oblivious=True):
        yield
