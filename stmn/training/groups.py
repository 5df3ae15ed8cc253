"""Groups of videos within a micro-batch that batch normalisation sees together.

A large GPU is fast with large micro-batches, but the number of videos that share batch statistics changes what a
network learns. So the two are separate: a micro-batch holds as many videos as memory allows, and each group in it is
normalised by its own statistics ("ghost batch normalisation", Hoffer, Hubara, Soudry, NeurIPS 2017, section 4).
Everything else that is drawn or computed per micro-batch, such as dropout, is done per group too. So the result
depends on the groups; how many of them are in memory at a time only changes rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stmn.errors import PluginError
from stmn.training.mixing import Mixing, mix_nothing

#: a layer of batch normalisation, of any number of dimensions
BatchNorm = nn.modules.batchnorm._BatchNorm
#: classes whose forward pass is torch's own, so that it can be rewritten as a formula
_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: draw as `nn.Dropout` does
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
#: classes made so far: each is made only once, because a compiler compares classes
_MADE: dict[tuple[Any, Any], Any] = {}


class Groups:
    """How the current micro-batch is cut into groups.

    Attributes:
        size: videos per group; the last group of a micro-batch may have fewer.
        videos: videos in the micro-batch.
        states: for each group, the states of the CPU's and the device's random number generators, from which its layers
            draw next; empty where a micro-batch is one group.
    """

    def __init__(self, size: int) -> None:
        self.size, self.videos = size, 0
        self.states: list[tuple[Tensor, Tensor | None]] = []

    def start(
        self, batch: dict[str, Tensor], mix: Mixing, seeds: Sequence[int], device: torch.device
    ) -> dict[str, Tensor]:
        """Begin a micro-batch: mix the videos of each group, and seed what its layers will draw.

        Args:
            batch: inputs and `label`, a row for each video.
            mix: mixes the videos of a group.
            seeds: one for each group.
            device: where the network is.

        Returns:
            The batch, mixed.
        """
        self.videos, self.states, parts = len(batch["label"]), [], []
        for seed, first in zip(seeds, range(0, self.videos, self.size), strict=True):
            torch.manual_seed(seed)
            parts.append(mix({name: values[first : first + self.size] for name, values in batch.items()}))
            if self.videos > self.size:
                self.states.append(random_state(device))
        if mix is mix_nothing:
            return batch
        return {name: torch.cat([part[name] for part in parts]) for name in batch}

    def rows(self, x: Tensor, layer: nn.Module) -> int:
        """Return how many rows of a tensor belong to one group; every video has the same number of rows.

        Raises:
            PluginError: the number of rows is not a multiple of the number of videos.
        """
        if self.videos <= self.size:
            return len(x)
        if len(x) % self.videos:
            raise PluginError(
                f"a layer of type {type(layer).__name__} sees {len(x)} rows for {self.videos} videos, so "
                f"they can't be normalised in groups: leave out bn_group"
            )
        return self.size * (len(x) // self.videos)


class GroupedNorm(BatchNorm):
    """Batch normalisation by the statistics of each group of rows; in testing, the layer's own class does its work.

    Running statistics are updated with one group after another, as in separate passes. The layer does not count passes:
    `stmn.training.statistics` does, once for all layers.

    Attributes:
        groups: how the micro-batch is cut.
        plain: True if the layer's own class is torch's, whose formula is known.
        after: called with the rows of each group once they have been normalised; None for nothing.
    """

    groups: Groups
    plain: bool
    after: Callable[[Tensor], None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...), or (N, C)."""
        if not self.training:
            normalised: Tensor = super().forward(x)
            return normalised
        rows = self.groups.rows(x, self)
        if rows >= len(x):  # one group: don't split, because the gradient of a split is a copy
            return self._normalise(x)
        if torch.compiler.is_compiling() and self.plain:
            return normalise_groups(self, x, rows)  # no more operations for many groups than for one
        return torch.cat([self._normalise(part) for part in x.split(rows)])

    def _normalise(self, x: Tensor) -> Tensor:
        """Normalise a group by its statistics."""
        if self.plain:
            normalised: Tensor = F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum or 0.0, self.eps
            )
        else:
            normalised = super().forward(x)
        if self.after is not None:
            self.after(x)
        return normalised


def normalise_groups(layer: BatchNorm, x: Tensor, rows: int) -> Tensor:
    """`GroupedNorm` written as one formula for all groups, for a compiler that fuses it.

    Args:
        layer: its running statistics are updated.
        x: (N, C, ...).
        rows: rows per group; the last one may have fewer.
    """
    full = len(x) // rows * rows
    if 0 < full < len(x):
        return torch.cat([normalise_groups(layer, x[:full], rows), normalise_groups(layer, x[full:], len(x) - full)])
    values = x.unflatten(0, (-1, rows)).to(torch.promote_types(x.dtype, torch.float32))  # (groups, rows, C, ...)
    over = [1, *range(3, values.ndim)]
    variance, mean = torch.var_mean(values, over, correction=0, keepdim=True)
    shape = (-1, *[1] * (x.ndim - 2))
    normalised = (values - mean) * torch.rsqrt(variance + layer.eps)
    if layer.affine:
        normalised = normalised * layer.weight.view(shape) + layer.bias.view(shape)
    with torch.no_grad():
        count, q, groups = values[0].numel() // layer.num_features, layer.momentum or 0.0, len(values)
        decay = (1 - q) ** torch.arange(groups - 1, -1, -1, device=x.device, dtype=values.dtype)  # the last weighs most
        for running, found in (
            (layer.running_mean, mean),
            (layer.running_var, variance * (count / max(count - 1, 1))),  # torch divides by count - 1
        ):
            assert running is not None
            step = q * (decay[:, None] * found.detach().reshape(groups, -1)).sum(dim=0)
            running.copy_((1 - q) ** groups * running + step)
    together: Tensor = normalised.flatten(0, 1).to(x.dtype)
    return together


class GroupedDropout(nn.Module):
    """Dropout that draws for each group what it would draw if the group were a micro-batch of its own."""

    groups: Groups
    training: bool
    p: float

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries of (N, ...)."""
        if not self.training or self.p == 0:
            kept: Tensor = super().forward(x)
            return kept
        return _drop_apart(super().forward, x, self.groups.rows(x, self), self.groups)


def _drop(dropout: Callable[[Tensor], Tensor], x: Tensor, rows: int, groups: Groups) -> Tensor:
    """Apply dropout to each group of `rows` rows, with the group's own random state."""
    if rows == len(x) or not groups.states:
        return dropout(x)
    parts = []
    for number, part in enumerate(x.split(rows)):
        set_random_state(groups.states[number], x.device)
        parts.append(dropout(part))
        groups.states[number] = random_state(x.device)
    return torch.cat(parts)


#: kept out of compiled code and CUDA graphs, which would draw other numbers
_drop_apart: Callable[[Callable[[Tensor], Tensor], Tensor, int, Groups], Tensor] = torch.compiler.disable(_drop)


def group_layers(network: nn.Module, layers: dict[str, BatchNorm], groups: Groups) -> None:
    """Make layers of batch normalisation, and all dropout, work by groups.

    Only their classes change, as in `nets.fast`, so they keep their names, parameters, buffers and hooks.

    Args:
        network: the network.
        layers: its layers of batch normalisation that are trained.
        groups: how each micro-batch is cut.
    """
    for layer in layers.values():
        if not isinstance(layer, GroupedNorm):
            layer.__class__ = _grouped(GroupedNorm, type(layer))
        assert isinstance(layer, GroupedNorm)
        layer.groups = groups
    for module in network.modules():
        if type(module) in _DROPOUTS and module.p:
            module.__class__ = _grouped(GroupedDropout, type(module))
        if isinstance(module, GroupedDropout):
            module.groups = groups


def _grouped(how: type[nn.Module], kind: type[nn.Module]) -> Any:
    """Return the class of a layer that works by groups: a subclass of `how` and of the layer's own class."""
    if (how, kind) not in _MADE:
        _MADE[how, kind] = type(f"Grouped{kind.__name__}", (how, kind), {"plain": kind in _PLAIN})
    return _MADE[how, kind]


def random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return the states of torch's random number generators for the CPU and a device; this doesn't wait for it."""
    if device.type == "cpu":
        return torch.get_rng_state(), None
    return torch.get_rng_state(), torch.get_device_module(device.type).get_rng_state(device)


def set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    """Restore the states that `random_state` returned."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.get_device_module(device.type).set_rng_state(state[1], device)
