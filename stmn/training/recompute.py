"""Batch statistics for testing: mean and variance over the training list, with the final weights.

Running statistics are an average over the last steps, each of which had other weights. This pass changes no weight: it
runs the micro-batches that the next training steps would have, and sums the values that each layer normalises.
"""

import threading
from functools import partial
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
#: steps after which several processes ask each other whether to stop; the host waits for the device then
_ASK_EVERY = 10
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
    sums = _Sums(normalisation.trained)
    try:
        with progress.task("batch statistics", steps, "steps") as task:
            batches = load_batches(clips, order, device.loader_threads, device=device)
            for number, batch in enumerate(batches, 1):
                groups.videos = len(batch["label"])
                with device.autocast():
                    network.logits(*select_inputs(network, device.move_batch(batch)))
                sums.add()
                if number % len(own) == 0:
                    if ranks.size == 1 or number // len(own) % _ASK_EVERY == 0:
                        _stop_together(stop, device, ranks)
                    task.advance()
    finally:
        sums.remove()
    for name, values in sums.total(ranks).items():
        if not _store(normalisation.trained[name], values):
            raise StmnError(
                f"the batch statistics of {name} are not finite after {count_of(first, 'step')}; try a lower lr"
            )


class _Sums:
    """Sums over all values that layers have normalised.

    A layer leaves the mean and variance of each group in its running statistics, from which they are copied. The rest
    is done for all layers and groups of a micro-batch at once, because a GPU would wait for so many small operations.

    Args:
        layers: the layers by name.
    """

    def __init__(self, layers: dict[str, BatchNorm]) -> None:
        self._layers = layers
        self._before = {name: (layer.momentum, layer.num_batches_tracked) for name, layer in layers.items()}
        self._groups: list[tuple[str, int]] = []  # of this micro-batch: the layer, and values per channel
        self._found: list[Tensor] = []  # for each of them (2, C): mean and variance
        # micro-batches with the same groups: their number, and (3, all C) sums of means, variances and squared means
        self._sums: dict[tuple[tuple[str, int], ...], tuple[int, Tensor]] = {}
        for name, layer in layers.items():
            assert isinstance(layer, GroupedNorm)
            if layer.num_batches_tracked is not None:  # a plugin's layer counts passes
                layer.num_batches_tracked = layer.num_batches_tracked.clone()
            layer.train()
            layer.momentum = 1.0  # makes the running statistics those of the last group
            layer.after = partial(self._keep, name)

    def _keep(self, name: str, x: Tensor) -> None:
        """Keep the statistics of a group."""
        layer = self._layers[name]
        assert layer.running_mean is not None and layer.running_var is not None
        self._groups.append((name, x.numel() // layer.num_features))
        self._found.append(torch.stack([layer.running_mean, layer.running_var]))

    def add(self) -> None:
        """Add the groups of a micro-batch."""
        if not self._groups:
            return
        mean, variance = torch.cat(self._found, dim=1).double()
        sums, groups = torch.stack([mean, variance, mean**2]), tuple(self._groups)
        self._groups, self._found = [], []
        count, before = self._sums.get(groups, (0, None))
        self._sums[groups] = count + 1, sums if before is None else before + sums

    def remove(self) -> None:
        """Restore the layers, except their running statistics."""
        for name, layer in self._layers.items():
            assert isinstance(layer, GroupedNorm)
            layer.after = None
            layer.momentum, layer.num_batches_tracked = self._before[name]
            layer.eval()

    def total(self, ranks: Ranks) -> dict[str, Tensor]:
        """Return the sums over the micro-batches of all processes.

        Returns:
            For each layer (1 + 2C,) float64: the number of values per channel, their sums, and the sums of their
            squares.
        """
        totals = {}
        for name, layer in self._layers.items():
            assert layer.running_mean is not None
            totals[name] = layer.running_mean.new_zeros(1 + 2 * layer.num_features, dtype=torch.float64)
        for groups, (passes, sums) in self._sums.items():
            parts = sums.split([self._layers[name].num_features for name, _ in groups], dim=1)
            for (name, count), (mean, variance, square) in zip(groups, parts, strict=True):
                totals[name][0] += passes * count
                # torch divides variances by count - 1
                totals[name][1:] += torch.cat([count * mean, count * square + (count - 1) * variance])
        if totals and ranks.size > 1:
            added = ranks.all_reduce(torch.cat(list(totals.values())))
            totals = dict(zip(totals, added.split([len(values) for values in totals.values()]), strict=True))
        return totals


def _store(layer: BatchNorm, values: Tensor) -> bool:
    """Store the mean and variance of all values as a layer's running statistics; return False if they are not finite.

    Args:
        layer: has C channels.
        values: (1 + 2C,), as `_Sums.total` returns them.
    """
    count, sums = values[0], values[1:]
    mean, square = sums.view(2, -1) / count
    variance = (square - mean**2).clamp(min=0) * (count / (count - 1))
    assert layer.running_mean is not None and layer.running_var is not None
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)
    return bool(torch.isfinite(mean).all() and torch.isfinite(variance).all())


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
