"""Which layers of batch normalisation are trained, and which stay as they are in the starting weights."""

from collections.abc import Collection
from typing import Literal

from torch import nn

from stmn.training.freezing import FrozenPart, find_frozen
from stmn.training.groups import BatchNorm, Groups, group_layers

BatchNormMode = Literal["train", "frozen", "partial"]


class Normalisation:
    """The layers of batch normalisation of a network that have running statistics.

    A layer that is trained normalises by the statistics of each group of videos. A frozen one normalises by its running
    statistics; neither these nor its gain and offset change.

    Args:
        network: the parameters of its frozen layers and parts get no gradient.
        mode: `frozen` freezes all layers of the backbones, `partial` all but the first one of each stream (temporal
            segment networks, section 3.3). A layer without starting weights, such as a gate's, is always trained.
        parts: frozen parts of the network; all their layers stay in testing mode, so without dropout.

    Attributes:
        trained: the layers that are trained, by name.
        frozen: the frozen ones.
    """

    def __init__(self, network: nn.Module, mode: BatchNormMode = "train", parts: Collection[FrozenPart] = ()) -> None:
        self.network, self._parts = network, find_frozen(network, parts)
        layers = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, BatchNorm) and module.track_running_stats
        }
        self.frozen: dict[str, BatchNorm] = {}
        if mode != "train":
            started = {name: layer for name, layer in layers.items() if ".backbone." in name and "temporal" not in name}
            first = {name.partition(".backbone.")[0]: name for name in reversed(started)}  # of each stream
            kept = first.values() if mode == "partial" else ()
            self.frozen = {name: layer for name, layer in started.items() if name not in kept}
        within = {id(module) for part in self._parts for module in part.modules()}
        self.frozen |= {name: layer for name, layer in layers.items() if id(layer) in within}
        self.trained = {name: layer for name, layer in layers.items() if name not in self.frozen}
        for module in (*self.frozen.values(), *self._parts):
            module.requires_grad_(False)

    def group(self, size: int) -> Groups:
        """Make the trained layers, and dropout, work by groups of `size` videos; return the groups."""
        groups = Groups(size)
        group_layers(self.network, self.trained, groups)
        return groups

    def start_training(self) -> None:
        """Put the network in training mode, except its frozen layers and parts."""
        self.network.train()
        for module in (*self.frozen.values(), *self._parts):
            module.eval()
