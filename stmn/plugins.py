"""The plugin contracts: what a package must offer so that stmn can use it by name.

A plugin is an entry point of an installed package, in one of the groups of `stmn.registry.KINDS`:

| kind | group | the entry point is |
|---|---|---|
| backbone | `stmn.backbones` | a `BackboneFactory` |
| fusion | `stmn.fusions` | a `Fusion` |
| injector | `stmn.injectors` | an `Injector` |
| flow | `stmn.flows` | a `FlowEstimator` |
| data set | `stmn.datasets` | a subclass of `Dataset` |
| exporter | `stmn.exporters` | a class that is an `Exporter` |
| logger | `stmn.loggers` | a class that is a `Logger` |
| weights | `stmn.weights` | a function that is `Weights` |

`API_VERSION` is the version of these contracts. A package declares the version that it was written for by an entry
point in the group `stmn.api`, whose name is the number. A package that declares none was written for 1.

Options of a plugin are keyword-only parameters with annotations: of the function, or of the `__init__` of the class.
Users set them by `--fusion-options reduction=4`, in a recipe `fusion_options = { reduction = 4 }`; stmn checks their
types. A plugin raises `ValueError` for a value that is not allowed.

`stmn.testing` has a check for each kind. A plugin raises `stmn.errors.UsageError` for a wrong option, and
`stmn.errors.DataError` for wrong data; its message is one line that says what is wrong, where, and what to do.

Importing this module does not import torch: the names that need it are imported when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from stmn.registry import API_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from stmn.datasets.base import Dataset, JpegFiles, Splits, VideoEntry
    from stmn.exporting.base import Exporter, Runner
    from stmn.exporting.program import make_program
    from stmn.nets.backbones import Backbone
    from stmn.nets.checkpoint import Description
    from stmn.nets.config import TemporalInit
    from stmn.nets.network import Network
    from stmn.nets.temporal import TemporalFilter
    from stmn.nets.units import Unit
    from stmn.training.loggers import Logger

__all__ = [
    "API_VERSION",
    "Backbone",
    "BackboneFactory",
    "Dataset",
    "Description",
    "Exporter",
    "FlowEstimator",
    "Fusion",
    "Injector",
    "JpegFiles",
    "Logger",
    "Network",
    "Runner",
    "Splits",
    "TemporalFilter",
    "TemporalInit",
    "Unit",
    "VideoEntry",
    "Weights",
    "make_program",
]

#: name -> the module that defines it, for names that are not defined here
_HOMES = {
    "Backbone": "stmn.nets.backbones",
    "Dataset": "stmn.datasets.base",
    "Description": "stmn.nets.checkpoint",
    "Exporter": "stmn.exporting.base",
    "JpegFiles": "stmn.datasets.base",
    "Logger": "stmn.training.loggers",
    "Network": "stmn.nets.network",
    "Runner": "stmn.exporting.base",
    "Splits": "stmn.datasets.base",
    "TemporalFilter": "stmn.nets.temporal",
    "TemporalInit": "stmn.nets.config",
    "Unit": "stmn.nets.units",
    "VideoEntry": "stmn.datasets.base",
    "make_program": "stmn.exporting.program",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'stmn.plugins' has no attribute '{name}'")


class Fusion(Protocol):
    """A fusion: a factory of modules that combine the two streams at a gate (section 3.2).

    The module that it returns is called with `(receiving, sending)`: feature maps of the two streams, each (N, C, H, W)
    with N = videos * chunks. It returns the input of the receiving stream's residual branch, in the same shape. It
    changes neither argument, keeps no state between calls, and lets gradients reach both arguments.

    A class whose modules start as if there were no gate, that is, return the receiving maps after a ReLU, may declare
    `starts_untied = True`; `stmn.testing.check_fusion` then checks it.
    """

    def __call__(self, channels: int) -> nn.Module:
        """Build the module for maps of C = `channels` channels. A class whose `__init__` takes `channels` will do."""


class Weights(Protocol):
    """Starting weights of streams: a function that returns the file for a modality.

    `train-stream --weights NAME` starts from that file. It is a file that `--weights` would also take by its path: an
    stmn model, such as `stmn export --format safetensors --half` writes, or a state dict of timm or torchvision.
    """

    def __call__(self, modality: Literal["rgb", "flow"], /) -> Path | None:
        """Return the file of the weights.

        Args:
            modality: "rgb" for an appearance stream, "flow" for a motion stream.

        Returns:
            A file in the package; None if it has none for this modality.
        """


class FlowEstimator(Protocol):
    """An optical-flow estimator: a function of two batches of frames.

    Keyword-only parameters with defaults and annotations are its options: `--flow-options` sets them.

    With `prepare --device cuda` one process calls it with pairs from several videos, as many as fit on the GPU. If
    torch raises `OutOfMemoryError`, it is called again with fewer. A function with the attribute `cpu_only = True`
    computes on the CPU wherever its frames are, so no GPU is reserved for it.
    """

    def __call__(self, first: Tensor, second: Tensor, /) -> Tensor:
        """Estimate the motion from the first frame of each pair to the second.

        Args:
            first: (B, H, W) grey frames, uint8 or floating point, 0 to 255 in either case.
            second: (B, H, W), as `first`.

        Returns:
            (B, 2, H, W) float32 on the frames' device: u to the right and v downwards, in pixels. A pair's flow must
            not depend on the other pairs in its batch.

        Raises:
            UsageError: the value of an option is not allowed.
        """


class Injector(Protocol):
    """An injector: a function that puts temporal filters into a stream (section 3.3)."""

    def __call__(self, backbone: Backbone, length: int, init: TemporalInit, /) -> None:
        """Set `Unit.temporal` of some units, and fill `Backbone.skip_temporal` if need be.

        Args:
            backbone: the ResNet, changed in place.
            length: chunks that each filter spans; odd.
            init: how filters start. With "centre" the stream's output must stay bit-identical.

        Raises:
            UsageError: the backbone has no place for the filters.
        """


class BackboneFactory(Protocol):
    """A backbone: a function that builds a ResNet with random weights and timm's parameter names."""

    def __call__(self, *, in_channels: int, width: float) -> Backbone:
        """Build the ResNet.

        Args:
            in_channels: channels that the first convolution reads: 3 for RGB, 2L for a stack of L flow fields.
            width: factor on the channels of the four parts, not of the stem; 1 for the usual number.
        """
