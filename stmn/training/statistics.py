"""Running statistics of batch normalisation: as they were before a step, and what a step adds to them.

A pass with batch statistics s turns a running statistic r into (1 - q) r + q s. The k passes of a step turn r0 into
D r0 + S with D = (1 - q)^k, where S does not depend on r0. So processes that start a step with the same r0 and share
its micro-batches need to exchange their S only to find what a single process would have that ran them all in order,
and S / (1 - D) is the step's own mean.
"""

from math import prod

import torch

from stmn.runtime.ranks import Ranks
from stmn.training.normalisation import Normalisation


class RunningStatistics:
    """The buffers of a network, `live`, and as they were `before` the current step.

    Args:
        normalisation: the network's layers; the momentum of those that are trained is set.
        momentum: weight of a step in running statistics, in (0, 1), whatever the number of its micro-batches. The
            first steps weigh more: they count equally, so that what a network started with is forgotten at once.
        micro_batches: micro-batches of a step, k.
    """

    def __init__(self, normalisation: Normalisation, momentum: float, micro_batches: int) -> None:
        network, layers = normalisation.network, normalisation.trained
        saved = network.state_dict().keys()
        self.live = {name: buffer for name, buffer in network.named_buffers() if name in saved}
        self.before = {name: buffer.clone() for name, buffer in self.live.items()}
        self._momentum, self._micro_batches = momentum, micro_batches
        self._pass_momentum = 1 - (1 - momentum) ** (1 / micro_batches)  # q
        for layer in layers.values():
            layer.momentum = self._pass_momentum
        self._averages = [f"{name}.running_{what}" for name in layers for what in ("mean", "var")]
        self._counters = [f"{name}.num_batches_tracked" for name in layers]

    def snapshot(self) -> None:
        """Remember the buffers before a step."""
        for name, buffer in self.live.items():
            self.before[name].copy_(buffer)

    def finish_step(self, step: int, ranks: Ranks) -> None:
        """Set the buffers to what one process would have that ran all micro-batches of a step in order.

        Args:
            step: the number of the step, from 0.
            ranks: the processes that shared its micro-batches.
        """
        weight = max(self._momentum, 1 / (step + 1))
        if (ranks.size == 1 and weight == self._momentum) or not self._averages:
            return
        # torch has averaged with the weight that a step has in the long run; the first ones weigh more
        counts = [len(Ranks(rank, ranks.size).share(self._micro_batches)) for rank in range(ranks.size)]
        decay = [(1 - self._pass_momentum) ** count for count in counts]  # D of each process
        later = prod(decay[ranks.rank + 1 :])
        own = [self.live[name].double() - decay[ranks.rank] * self.before[name].double() for name in self._averages]
        sizes = [len(value) for value in own]
        sums = torch.split(ranks.all_reduce(torch.cat(own) * later), sizes)  # S of the step
        for name, value in zip(self._averages, sums, strict=True):
            mean = value / (1 - prod(decay))
            self.live[name].copy_((1 - weight) * self.before[name].double() + weight * mean)
        for name in self._counters:
            self.live[name].copy_(self.before[name] + self._micro_batches)
