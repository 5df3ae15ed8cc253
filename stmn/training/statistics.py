"""Running statistics of batch normalisation: kept from before a step, and folded over processes after it.

A pass with batch statistics s makes r = (1 - m) r + m s. k passes from r0 make r = D r0 + S with D = (1 - m)^k, where S
knows nothing of r0. So processes that start a step with one r0 and share its micro-batches can each say their S, and
all find what one process would have that did them in order.
"""

from math import prod

import torch
from torch import Tensor, nn

from stmn.errors import UsageError
from stmn.runtime.ranks import Ranks

Normalisation = nn.modules.batchnorm._BatchNorm


class Statistics:
    """The buffers of a network, as they were before the step under way."""

    def __init__(self, network: nn.Module) -> None:
        self.live = {name: buffer for name, buffer in network.named_buffers() if name in network.state_dict()}
        self.before = {name: buffer.clone() for name, buffer in self.live.items()}
        #: name of each running mean and variance -> the share of a batch in it
        self.momentum: dict[str, float | None] = {}
        self.counters: list[str] = []
        for path, module in network.named_modules():
            if isinstance(module, Normalisation) and module.track_running_stats:
                prefix = f"{path}." if path else ""
                self.momentum |= {f"{prefix}running_{what}": module.momentum for what in ("mean", "var")}
                self.counters.append(f"{prefix}num_batches_tracked")

    def keep(self) -> None:
        """Remember them: a step begins."""
        for name, buffer in self.live.items():
            self.before[name].copy_(buffer)

    def fold(self, ranks: Ranks, micro_batches: int) -> None:
        """Make them what one process would have after all `micro_batches` of the step in order.

        Raises `UsageError` for cumulative averages (momentum None), whose order can't be undone.
        """
        if ranks.size == 1:
            return
        if None in self.momentum.values():
            raise UsageError("batch normalisation with momentum = None can't be trained by several processes")
        counts = [len(Ranks(rank, ranks.size).share(micro_batches)) for rank in range(ranks.size)]
        own: list[Tensor] = []
        for name, momentum in self.momentum.items():
            kept = [(1 - float(momentum or 0)) ** count for count in counts]
            change = self.live[name].double() - kept[ranks.rank] * self.before[name].double()
            own.append(change.flatten() * prod(kept[ranks.rank + 1 :]))
        if not own:
            return
        folded = ranks.all_reduce(torch.cat(own)).split([self.live[name].numel() for name in self.momentum])
        for (name, momentum), change in zip(self.momentum.items(), folded, strict=True):
            kept_of_all = prod((1 - float(momentum or 0)) ** count for count in counts)
            value = kept_of_all * self.before[name].double() + change.view_as(self.before[name])
            self.live[name].copy_(value)
        for name in self.counters:
            self.live[name].copy_(self.before[name] + micro_batches)
