"""Running statistics of batch normalisation: as they were before a step, and merged over processes after it.

A pass with batch statistics s turns a running statistic r into (1 - m) r + m s. k passes turn r0 into D r0 + S with
D = (1 - m)^k, where S does not depend on r0. So processes that start a step with the same r0 and share its
micro-batches need to exchange their S only to find what a single process would have that ran them all in order.
"""

from math import prod

import torch
from torch import Tensor, nn

from stmn.errors import UsageError
from stmn.runtime.ranks import Ranks

_Normalisation = nn.modules.batchnorm._BatchNorm


class RunningStatistics:
    """The buffers of a network, `live`, and as they were `before` the current step."""

    def __init__(self, network: nn.Module) -> None:
        persistent = network.state_dict().keys()
        self.live = {name: buffer for name, buffer in network.named_buffers() if name in persistent}
        self.before = {name: buffer.clone() for name, buffer in self.live.items()}
        #: running mean or variance -> weight of a batch in it, m
        self._momentum: dict[str, float | None] = {}
        self._counters: list[str] = []
        for path, module in network.named_modules():
            if isinstance(module, _Normalisation) and module.track_running_stats:
                prefix = f"{path}." if path else ""
                self._momentum |= {f"{prefix}running_{what}": module.momentum for what in ("mean", "var")}
                self._counters.append(f"{prefix}num_batches_tracked")

    def snapshot(self) -> None:
        """Remember the buffers before a step."""
        for name, buffer in self.live.items():
            self.before[name].copy_(buffer)

    def merge(self, ranks: Ranks, micro_batches: int) -> None:
        """Set the buffers to what one process would have that ran all `micro_batches` of the step in order.

        Raises:
            UsageError: the network has cumulative averages (momentum None), which can't be merged.
        """
        if ranks.size == 1:
            return
        if None in self._momentum.values():
            raise UsageError("batch normalisation with momentum = None can't be trained by several processes")
        counts = [len(Ranks(rank, ranks.size).share(micro_batches)) for rank in range(ranks.size)]
        own: list[Tensor] = []
        for name, momentum in self._momentum.items():
            decay = [(1 - float(momentum or 0)) ** count for count in counts]  # D of each process
            change = self.live[name].double() - decay[ranks.rank] * self.before[name].double()  # S of this one
            own.append(change.flatten() * prod(decay[ranks.rank + 1 :]))
        if not own:
            return
        sizes = [self.live[name].numel() for name in self._momentum]
        merged = torch.split(ranks.all_reduce(torch.cat(own)), sizes)
        for (name, momentum), change in zip(self._momentum.items(), merged, strict=True):
            decay_of_all = prod((1 - float(momentum or 0)) ** count for count in counts)
            value = decay_of_all * self.before[name].double() + change.view_as(self.before[name])
            self.live[name].copy_(value)
        for name in self._counters:
            self.live[name].copy_(self.before[name] + micro_batches)
