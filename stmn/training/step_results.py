"""The results of each step, such as its losses and gradient norm, and how they reach the host.

The numbers of a step are one small tensor, which is summed over the processes and copied to the host once. On a CPU
they are known at once. A GPU runs behind the host, and waiting for it would cost time; so the numbers of a step are
read once the next step has been queued. Until then, the GPU itself keeps a step that is not finite, and every later
one, from changing the weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from stmn.runtime.device import Device
from stmn.runtime.host_copy import HostCopy
from stmn.runtime.ranks import Ranks
from stmn.training.plan import Plan


@dataclass(frozen=True)
class StepResult:
    """The results of one step, the same in all processes.

    Attributes:
        step: its number, from 0.
        losses: each micro-batch's part of the step's loss.
        correct: videos classified correctly.
        norm: the gradient norm.
        can_rescale: the loss was scaled, by a factor that can still be lowered (float16).
        stop: a process was asked to stop.
        due: it is time to save the state.
    """

    step: int
    losses: Sequence[float]
    correct: int
    norm: float
    can_rescale: bool
    stop: bool
    due: bool

    @property
    def bad_losses(self) -> list[bool]:
        """For each micro-batch, whether its loss is NaN or Inf."""
        return [not isfinite(loss) for loss in self.losses]

    @property
    def broken(self) -> bool:
        """True if this step must not change the weights; an overflow in float16 is left to the loss scaler."""
        return any(self.bad_losses) or not (isfinite(self.norm) or self.can_rescale)


class StepResults:
    """The results of the last steps that have not reached the host yet.

    Args:
        plan: gives the number of micro-batches per step.
        ranks: the processes that train together.
        device: where they compute.
        optimizer: updates the weights that a broken step must not change.
        scaler: the loss scaler.
    """

    def __init__(self, plan: Plan, ranks: Ranks, device: Device, optimizer: Optimizer, scaler: GradScaler) -> None:
        self._micro_batches, self._ranks = plan.micro_batches, ranks
        self._behind = 1 if device.runs_ahead else 0
        self._optimizer, self._scaler = optimizer, scaler
        self._broken: Tensor | None = None  # on the device: 1.0 once a step was broken
        self._waiting: list[tuple[int, HostCopy, bool, bool]] = []

    def add(
        self, step: int, losses: Mapping[int, Tensor], correct: Sequence[Tensor], norm: Tensor, stop: bool, due: bool
    ) -> None:
        """Share this process's results of a step with the others, and send the sums to the host.

        Args:
            step: the number of the step.
            losses: number of each of this process's micro-batches -> its part of the loss, a scalar.
            correct: for each of them, the number of videos classified correctly, a scalar.
            norm: the gradient norm, a scalar.
            stop: this process was asked to stop.
            due: this process wants the state saved.
        """
        counted = torch.stack(list(correct)).sum().to(norm)
        scale = [self._scaler.scale(torch.ones_like(norm))] if self._scaler.is_enabled() else []
        numbers = torch.stack([*losses.values(), counted, norm, *scale])
        if self._ranks.size > 1:
            numbers = self._add_up(min(losses), numbers, stop, due)
        self._waiting.append((step, HostCopy(numbers), stop, due))
        if self._behind:
            broken = (~torch.isfinite(numbers).all()).to(torch.float32)
            self._broken = broken if self._broken is None else torch.maximum(self._broken, broken)
            # read by torch's fused optimizers: they leave the weights as they are if this is 1
            self._optimizer.found_inf, self._optimizer.grad_scale = self._broken, None  # type: ignore[attr-defined]

    def known(self) -> list[StepResult]:
        """Return the results up to this step, or on a GPU up to the step before; each step is returned once."""
        return self._take(len(self._waiting) - self._behind)

    def wait(self) -> list[StepResult]:
        """Return the results of all steps that were not returned yet; this waits for the device."""
        return self._take(len(self._waiting))

    def _take(self, count: int) -> list[StepResult]:
        """Return the first `count` of the waiting steps."""
        taken, self._waiting = self._waiting[: max(count, 0)], self._waiting[max(count, 0) :]
        return [self._read(*one) for one in taken]

    def _read(self, step: int, copy: HostCopy, stop: bool, due: bool) -> StepResult:
        """Read the numbers of a step from the host copy."""
        numbers = copy.read()
        if self._ranks.size > 1:
            *numbers, stops, dues = numbers
            stop, due = stops > 0, dues > 0
        losses, (correct, norm, *scale) = numbers[: self._micro_batches], numbers[self._micro_batches :]
        return StepResult(step, losses, int(correct), norm, bool(scale) and scale[0] >= 1, stop, due)

    def _add_up(self, first: int, own: Tensor, stop: bool, due: bool) -> Tensor:
        """Sum over the processes: losses of all micro-batches, correct, norm, scale if there is one, stop and due."""
        micro_batches, share = self._micro_batches, len(own) - (3 if self._scaler.is_enabled() else 2)
        numbers = own.new_zeros(micro_batches + len(own) - share + 2)
        numbers[first : first + share] = own[:share]
        numbers[micro_batches] = own[share]
        if self._ranks.first:  # norm and scale are the same in all processes
            numbers[micro_batches + 1 : -2] = own[share + 1 :]
        numbers[-2].fill_(float(stop))  # making a new tensor of these two would make the host wait for the device
        numbers[-1].fill_(float(due))
        return self._ranks.all_reduce(numbers)
