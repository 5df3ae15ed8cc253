"""Which weights a training keeps: the last ones, their running average, or those of the best validation."""

from collections.abc import Sequence

from timm.utils.model_ema import ModelEmaV3
from torch import Tensor

from stmn.nets.network import Network
from stmn.training.plan import Plan


class KeptWeights:
    """The weights that are validated and kept; with the plan's defaults they are the network's own.

    With `plan.ema` they are a running average of weights and running statistics after each step. Its decay is
    min(ema, 1 - t^(-2/3)) after step t, so that a short training forgets the weights that it started with.
    With `plan.keep_best`, the weights of the first validation with the lowest error are kept when training ends.
    """

    def __init__(self, network: Network, plan: Plan) -> None:
        self.network, self.keep_best = network, plan.keep_best
        self._average = ModelEmaV3(network, plan.ema, use_warmup=True) if plan.ema else None
        self._best: dict[str, Tensor] = {}

    @property
    def current(self) -> Network:
        """The network as it would be kept now, without `keep_best`."""
        if self._average is None:
            return self.network
        assert isinstance(self._average.module, Network)
        return self._average.module

    def update(self, step: int) -> None:
        """Add the weights after an update to the average; `step` counts from 1."""
        if self._average is not None:
            self._average.update(self.network, step)

    def validated(self, errors: Sequence[float]) -> None:
        """Remember the current weights if the last of the validation errors is lower than all before."""
        if self.keep_best and errors[-1] < min(errors[:-1], default=float("inf")):
            self._best = {name: value.clone() for name, value in self.current.state_dict().items()}

    def finish(self) -> None:
        """Give the network the weights to keep; calling this again changes nothing."""
        found = self._best or (self._average.module.state_dict() if self._average is not None else {})
        if found:
            self.network.load_state_dict(found)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that a resumed training needs, by name."""
        average = {} if self._average is None else self._average.module.state_dict()
        return {f"average.{name}": value for name, value in average.items()} | {
            f"best.{name}": value for name, value in self._best.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        average, best = (
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            for prefix in ("average.", "best.")
        )
        if self._average is not None:
            self._average.module.load_state_dict(average)
        device = next(self.network.parameters()).device
        self._best = {name: value.to(device) for name, value in best.items()}


def best_validation(history: Sequence[dict[str, object]]) -> dict[str, object] | None:
    """Return the first row of a log with the lowest validation error; None if there was no validation."""
    rows = [row for row in history if "validation_error" in row]
    return min(rows, key=lambda row: float(str(row["validation_error"])), default=None)
