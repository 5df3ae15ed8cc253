"""Learning rates: functions of the step and of the validation errors so far, so that a resumed run goes on the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

ScheduleName = Literal["plateau", "steps", "authors", "cosine"]


@dataclass(frozen=True)
class Schedule:
    """`plateau`: /10 when the validation error saturates, twice (section 4.1, streams). `steps`: /10 after each of
    `milestones` (steps; section 4.1, fused), as does `authors` at those of their code. `cosine`: a short warm-up, then
    to 0 along a cosine.
    """

    name: ScheduleName
    rate: float
    steps: int
    milestones: tuple[int, ...] = ()
    patience: int = 5
    lowerings: int = 2

    def rate_at(self, step: int, errors: Sequence[float]) -> float:
        """The learning rate of `step`, after validations with `errors`."""
        if self.name == "cosine":
            warm = max(1, self.steps // 20)
            if step < warm:
                return self.rate * (step + 1) / warm
            return self.rate * 0.5 * (1 + cos(pi * (step - warm) / max(1, self.steps - warm)))
        if self.name in ("steps", "authors"):
            return self.rate * 0.1 ** sum(step >= milestone for milestone in self.milestones)
        return self.rate * 0.1 ** min(self.saturations(errors), self.lowerings)

    def saturated(self, errors: Sequence[float]) -> bool:
        """True when a plateau schedule has nothing left to lower: training ends."""
        return self.name == "plateau" and self.saturations(errors) > self.lowerings

    def saturations(self, errors: Sequence[float]) -> int:
        """How often the error went `patience` validations without a new best."""
        best, waited, count = float("inf"), 0, 0
        for error in errors:
            best, waited = (error, 0) if error < best else (best, waited + 1)
            if waited == self.patience:
                waited, count = 0, count + 1
        return count
