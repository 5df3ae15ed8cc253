"""Learning rates: functions of the step and of the validation errors so far, so a resumed run needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

ScheduleName = Literal["plateau", "steps", "authors", "cosine"]


@dataclass(frozen=True)
class Schedule:
    """A learning rate that falls during training.

    Attributes:
        name: `plateau` divides the rate by 10 each time the validation error stops improving (section 4.1, single
            streams). `steps` divides it by 10 at each milestone (section 4.1, fused network); `authors` does the same
            at the milestones of the authors' code. `cosine` falls to 0 along a cosine.
        rate: the largest learning rate.
        steps: steps of the whole training.
        milestones: steps at which the rate is divided by 10.
        patience: validations without improvement before `plateau` lowers the rate.
        lowerings: how often `plateau` lowers the rate before training ends.
        warmup: steps in which the rate rises linearly from 0 to its value; None for a twentieth of the training with
            `cosine`, and no warm-up otherwise.
    """

    name: ScheduleName
    rate: float
    steps: int
    milestones: tuple[int, ...] = ()
    patience: int = 5
    lowerings: int = 2
    warmup: int | None = None

    @property
    def warm_up(self) -> int:
        """Number of steps in which the rate rises."""
        if self.warmup is not None:
            return self.warmup
        return max(1, self.steps // 20) if self.name == "cosine" else 0

    def rate_at(self, step: int, errors: Sequence[float]) -> float:
        """Return the learning rate of `step` (from 0), given the validation errors so far."""
        warm_up = self.warm_up
        rate = self._rate_when_warm(max(step, warm_up) if self.name == "cosine" else step, errors)
        return rate * (step + 1) / warm_up if step < warm_up else rate

    def _rate_when_warm(self, step: int, errors: Sequence[float]) -> float:
        """Return the learning rate of a step without warm-up; a cosine begins when the warm-up ends."""
        if self.name == "cosine":
            return self.rate * 0.5 * (1 + cos(pi * (step - self.warm_up) / max(1, self.steps - self.warm_up)))
        if self.name in ("steps", "authors"):
            return self.rate * 0.1 ** sum(step >= milestone for milestone in self.milestones)
        return self.rate * 0.1 ** min(self._saturations(errors), self.lowerings)

    def saturated(self, errors: Sequence[float]) -> bool:
        """True if a `plateau` schedule has no lower rate left; this ends training."""
        return self.name == "plateau" and self._saturations(errors) > self.lowerings

    def _saturations(self, errors: Sequence[float]) -> int:
        """Count how often `patience` validations in a row brought no lower error."""
        best, stale, count = float("inf"), 0, 0
        for error in errors:
            best, stale = (error, 0) if error < best else (best, stale + 1)
            if stale == self.patience:
                stale, count = 0, count + 1
        return count
