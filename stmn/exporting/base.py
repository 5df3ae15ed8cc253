"""The exporter plugin contract."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from stmn.nets.checkpoint import Description
from stmn.nets.network import Network

#: runs a written file: maps each stream's input to each output's logits
Runner = Callable[[Sequence[Tensor]], list[Tensor]]


class Exporter(Protocol):
    """Writes a network to one file, and runs that file.

    Keyword-only parameters of its `__init__` are its options: `--format-options` sets them. If it has `read`, all
    options must have defaults, because files are read without options.

    Attributes:
        suffix: The suffix of the file's name, such as ".onnx"; a class attribute, if it has `read`.

    An exporter may also have:

    - `precisions = ("float32", "float16", "int8")`: the precisions that it can write. `write` must then take
      `precision` as a keyword, which is passed unless it is float32. With "int8" it also gets `clips`, a list of inputs
      like `example` from training videos.
    - `opsets = range(18, 24)`: versions of the format's operators. `write` must then take `opset`, passed if asked for.
    - `companions = (".bin",)`: suffixes of files that `write` puts beside `path` with the same stem.
    - `read(path)`: returns the `Description` in a written file. With it `stmn predict` takes files of this suffix. It
      raises `stmn.errors.CheckpointError` for a file that is damaged or has no description.
    """

    suffix: str

    def write(self, network: Network, description: Description, example: Sequence[Tensor], path: Path) -> None:
        """Write the file.

        Args:
            network: The network.
            description: Its classes, preprocessing and plugins, without the names of training videos.
            example: A batch for each stream, (B, T, channels, H, W). All sizes except the channels must stay free.
            path: Where to write.
        """

    def runner(self, path: Path) -> Runner:
        """Load the written file, and return what runs it."""


def example_inputs(network: Network, description: Description, batch: int, chunks: int, wider: int = 0) -> list[Tensor]:
    """Random inputs of the test protocol's size.

    Args:
        network: The network.
        description: Its description.
        batch: B, the number of videos.
        chunks: T, the chunks of each video.
        wider: Pixels by which the frames are wider than they are high.

    Returns:
        (B, T, channels, H, W) for each stream.
    """
    config = network.config
    side = description.test_short_side
    generator = torch.Generator().manual_seed(batch * 100 + chunks)
    return [
        torch.randn(batch, chunks, config.in_channels(stream.modality), side, side + wider, generator=generator)
        for stream in config.streams
    ]
