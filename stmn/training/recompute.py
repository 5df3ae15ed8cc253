"""Batch statistics for testing: mean and variance over the training list, with the final weights.

Running statistics are an average over the last steps, each of which had other weights. This pass changes no weight: it
runs the micro-batches that the next training steps would have, and sums the values that each layer normalises.
"""

import threading
from collections.abc import Iterable
from math import ceil
from typing import Any

import torch
from torch import Tensor

from stmn.errors import Interrupted, StmnError, count_of
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.progress import Progress
from stmn.runtime.ranks import ALONE, Ranks
from stmn.sampling.clips import Clips
from stmn.sampling.loader import load_batches
from stmn.sampling.order import MicroBatches
from stmn.training.groups import BatchNorm, GroupedNorm
from stmn.training.learner import select_inputs
from stmn.training.normalisation import Normalisation
from stmn.training.plan import Plan
from stmn.training.state import TrainingState

#: time of a pass without gradients, as a fraction of the time of training steps on the same videos
_FORWARD_FRACTION = 0.4
#: samples beyond which statistics hardly change (docs/decisions/batch-statistics-are-recomputed.md)
_ENOUGH = 1000


def count_samples(plan: Plan, videos: int) -> int:
    """Return how many samples statistics are recomputed from: at least `plan.bn_passes` times the training list.

    The number is rounded up to whole steps. A short list is run through more often, up to 1000 samples but at most a
    quarter of those seen in training, because the statistics of a few samples vary more than running ones do.

    Args:
        plan: the plan of the training.
        videos: length of the training list.
    """
    once = max(videos, min(_ENOUGH, plan.steps * plan.batch // 4))
    return plan.bn_passes * ceil(once / plan.batch) * plan.batch


def announce_recomputation(plan: Plan, videos: int, state: TrainingState, progress: Progress) -> None:
    """Print that statistics will be recomputed, and roughly how long that takes.

    Args:
        videos: length of the training list.
        state: the final state of the training; its log has the speed.
    """
    samples = count_samples(plan, videos)
    speed = state.history[-1]["videos_per_second"] if state.history else 0
    time = f", about {max(1, round(_FORWARD_FRACTION * samples / speed))} s" if speed else ""
    progress.say(
        f"batch statistics: recomputing them from {count_of(samples, 'sample')} of the training list{time} "
        f"(--bn-passes 0 keeps the running statistics)"
    )


@torch.no_grad()
def recompute_statistics(
    normalisation: Normalisation, clips: Clips, plan: Plan, first: int, device: Device, progress: Progress,
    ranks: Ranks = ALONE, stop: threading.Event | None = None,
) -> None:  # fmt: skip
    """Set the running statistics of the trained layers to the mean and variance over the training list.

    The samples are those of the steps from `first` on, in training's micro-batches, crops and precision. Layers
    normalise by the statistics of each group, as in training; dropout is off, as in testing. The variance is that
    of all values together, so it includes the differences between the means of groups. Frozen layers stay as they
    are.

    Args:
        normalisation: the layers, and their network.
        clips: samples of the training list.
        first: a step; with the plan it decides which samples are drawn.
        ranks: processes that share the micro-batches; all get the same statistics.
        stop: setting this event ends the pass.

    Raises:
        Interrupted: `stop` was set; the statistics are unusable then.
        StmnError: a statistic is not finite.
    """
    network, own, groups = normalisation.network, ranks.share(plan.micro_batches), normalisation.group(plan.group)
    assert isinstance(network, Network)
    steps = count_samples(plan, len(clips)) // plan.batch
    order = MicroBatches(
        len(clips), plan.batch, plan.micro_batch, plan.seed, first, first + steps, own, plan.stride,
        clips.balanced_labels, plan.group,
    )  # fmt: skip
    network.eval()
    sums = {name: _Sums(layer) for name, layer in normalisation.trained.items()}
    try:
        with progress.task("batch statistics", steps, "steps") as task:
            batches = load_batches(clips, order, device.loader_threads, device=device)
            for number, batch in enumerate(batches, 1):
                groups.videos = len(batch["label"])
                with device.autocast():
                    network.logits(*select_inputs(network, device.move_batch(batch)))
                if number % len(own) == 0:
                    _stop_together(stop, device, ranks)
                    task.advance()
    finally:
        for layer in sums.values():
            layer.remove()
    _add_up(sums.values(), ranks)
    for name, layer in sums.items():
        if not layer.store():
            raise StmnError(
                f"the batch statistics of {name} are not finite after {count_of(first, 'step')}; try a lower lr"
            )


class _Sums:
    """Sums over all values that a layer has normalised, group by group.

    Attributes:
        values: (1 + 2C,) float64: the number of values per channel, their sums, and the sums of their squares.
    """

    def __init__(self, layer: BatchNorm) -> None:
        assert isinstance(layer, GroupedNorm) and layer.running_mean is not None
        self.layer, self.momentum = layer, layer.momentum
        self.values = layer.running_mean.new_zeros(1 + 2 * layer.num_features, dtype=torch.float64)
        self._batches = None if layer.num_batches_tracked is None else layer.num_batches_tracked.clone()
        layer.train()
        layer.momentum = 1.0  # makes the running statistics those of the last group
        layer.after = self._add

    def _add(self, x: Tensor) -> None:
        """Add a group."""
        layer = self.layer
        assert layer.running_mean is not None and layer.running_var is not None
        count = x.numel() // layer.num_features
        mean = layer.running_mean.double()
        variance = layer.running_var.double() * ((count - 1) / count)  # torch divides by count - 1
        self.values += count * torch.cat([torch.ones_like(mean[:1]), mean, variance + mean**2])

    def remove(self) -> None:
        """Restore the layer, except its running statistics."""
        self.layer.after = None
        self.layer.momentum = self.momentum
        if self._batches is not None:  # a plugin's layer has counted passes
            self.layer.num_batches_tracked = self._batches
        self.layer.eval()

    def store(self) -> bool:
        """Store the mean and variance of all values as the layer's running statistics; False if they are not finite."""
        count, sums = self.values[0], self.values[1:]
        mean, square = sums.view(2, -1) / count
        variance = (square - mean**2).clamp(min=0) * (count / (count - 1))
        assert self.layer.running_mean is not None and self.layer.running_var is not None
        self.layer.running_mean.copy_(mean)
        self.layer.running_var.copy_(variance)
        return bool(torch.isfinite(mean).all() and torch.isfinite(variance).all())


def _add_up(sums: Iterable[_Sums], ranks: Ranks) -> None:
    """Add up the sums of all processes."""
    layers = list(sums)
    if not layers or ranks.size == 1:
        return
    added = ranks.all_reduce(torch.cat([layer.values for layer in layers]))
    for layer, values in zip(layers, added.split([len(layer.values) for layer in layers]), strict=True):
        layer.values = values


def _stop_together(stop: threading.Event | None, device: Device, ranks: Ranks) -> None:
    """Raise `Interrupted` in all processes if one of them was asked to stop."""
    asked = stop is not None and stop.is_set()
    if ranks.size > 1:
        asked = bool(ranks.all_reduce(torch.tensor(float(asked), device=device.device)) > 0)
    if asked:
        raise Interrupted("interrupted while recomputing batch statistics; rerun the command to continue")


def describe_statistics(normalisation: Normalisation, plan: Plan, videos: int) -> dict[str, Any]:
    """Return how the batch statistics of a network were made, for its model file.

    Args:
        normalisation: the network's layers.
        videos: length of the training list.
    """
    about: dict[str, Any] = {"trained_layers": len(normalisation.trained), "frozen_layers": len(normalisation.frozen)}
    if not normalisation.trained:
        return about
    if plan.bn_passes:
        return about | {"made": "recomputed", "samples": count_samples(plan, videos), "micro_batch": plan.group}
    return about | {"made": "running", "momentum": plan.bn_momentum, "micro_batch": plan.group}
