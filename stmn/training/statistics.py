"""Running statistics of batch normalisation: their values before a step, and what a step adds to them.

A group with batch statistics s turns a running statistic r into (1 - q) r + q s. The k groups of a step turn r0 into
D r0 + S with D = (1 - q)^k, where S does not depend on r0, and S / (1 - D) is the step's own mean. Processes that share
the micro-batches of a step start it with the same r0. So they need to exchange only their S to get the result of a
single process that runs all micro-batches in order.

All of this is done on one flat tensor: a network has hundreds of layers, and on a GPU launching a kernel for each
buffer would take longer than the arithmetic.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from stmn.runtime.ranks import Ranks
from stmn.training.normalisation import Normalisation


class RunningStatistics:
    """The buffers of a network before the current step, and their update by the step.

    Args:
        normalisation: the network's layers; sets the momentum of the trained ones.
        momentum: weight of a step in running statistics, in (0, 1), whatever the number of its groups. The first steps
            weigh more: they count equally, so the network's initial statistics are forgotten at once.
        counts: for each process, the number of groups that it runs in a step.
    """

    def __init__(self, normalisation: Normalisation, momentum: float, counts: Sequence[int]) -> None:
        network, layers = normalisation.network, normalisation.trained
        saved = network.state_dict().keys()
        buffers = {name: buffer for name, buffer in network.named_buffers() if name in saved}
        averages = [f"{name}.running_{what}" for name in layers for what in ("mean", "var")]
        counters = [f"{name}.num_batches_tracked" for name in layers]
        rest = [name for name in buffers if name not in {*averages, *counters}]
        kinds: dict[torch.dtype, list[str]] = {buffers[name].dtype: [] for name in rest}
        for name in rest:
            kinds[buffers[name].dtype].append(name)
        self._averages, self._counters, *others = (
            _Flat({name: buffers[name] for name in names}) for names in (averages, counters, *kinds.values())
        )
        self._all = [part for part in (self._averages, self._counters, *others) if part.live]
        self._momentum, self._counts = momentum, list(counts)
        self._pass_momentum = 1 - (1 - momentum) ** (1 / sum(counts))  # q
        for layer in layers.values():
            layer.momentum = self._pass_momentum

    @property
    def before(self) -> dict[str, Tensor]:
        """The buffers as they were before the current step."""
        return {name: value for part in self._all for name, value in part.before().items()}

    def snapshot(self) -> None:
        """Store the buffers' values before a step."""
        for part in self._all:
            part.flat = part.read()

    def finish_step(self, step: int, ranks: Ranks) -> None:
        """Set the buffers to the result of one process that runs all micro-batches of a step in order.

        Args:
            step: the number of the step, from 0.
            ranks: the processes that shared its micro-batches.
        """
        if not self._averages.live:
            return
        self._counters.write(self._counters.flat + sum(self._counts))
        weight = max(self._momentum, 1 / (step + 1))
        if ranks.size == 1 and weight == self._momentum:
            return
        # torch has averaged with the final weight of a step; the first steps weigh more
        decay = [(1 - self._pass_momentum) ** count for count in self._counts]  # D of each process
        before = self._averages.flat.double()
        own = self._averages.read().double() - decay[ranks.rank] * before
        total = ranks.all_reduce(own * prod(decay[ranks.rank + 1 :]))  # S of the step
        self._averages.write((1 - weight) * before + weight * total / (1 - prod(decay)))


class _Flat:
    """Buffers of one dtype, and a copy of their values in one flat tensor.

    Attributes:
        live: the buffers by name.
        flat: their values before the current step.
    """

    def __init__(self, live: dict[str, Tensor]) -> None:
        self.live = live
        self.flat = self.read()

    def read(self) -> Tensor:
        """Return the buffers' current values as a flat tensor."""
        return torch.cat([buffer.reshape(-1) for buffer in self.live.values()]) if self.live else torch.empty(0)

    def before(self) -> dict[str, Tensor]:
        """Return the stored values by name."""
        return dict(zip(self.live, self._split(self.flat), strict=True))

    def write(self, flat: Tensor) -> None:
        """Set the buffers' values from a flat tensor."""
        torch._foreach_copy_(list(self.live.values()), self._split(flat))

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Cut a flat tensor into the buffers' shapes."""
        parts = flat.split([buffer.numel() for buffer in self.live.values()])
        return [part.view_as(buffer) for part, buffer in zip(parts, self.live.values(), strict=True)]
