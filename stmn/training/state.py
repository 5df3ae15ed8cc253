"""Everything that an interrupted training run needs to continue, bit for bit, as if nothing had happened."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from stmn.errors import CheckpointError, DataError
from stmn.nets.checkpoint import fill_network
from stmn.nets.network import Network
from stmn.runtime.files import remove_leftovers
from stmn.runtime.progress import Progress
from stmn.runtime.ranks import Ranks
from stmn.runtime.tensor_files import read_metadata, read_tensors, save_tensors
from stmn.training.kept import KeptWeights
from stmn.training.plan import Plan

STATE_FILE = "training.safetensors"


@dataclass
class TrainingState:
    """The progress of a training run; random numbers are a function of the step, so no generator state is saved.

    Attributes:
        step: steps done.
        errors: validation errors so far.
        history: rows of the log so far.
        scaler: state of the loss scaler (float16).
        sums: partial sums for the next row of the log (`stmn.training.log.Log.sums`).
    """

    step: int = 0
    errors: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    scaler: dict[str, Any] = field(default_factory=dict)
    sums: list[list[float]] = field(default_factory=list)


_STATES = TypeAdapter(TrainingState)
#: what to do about a damaged state
_REMEDY = "start over with --no-resume (in a recipe: resume = false)"


class SavedState:
    """The state of a run in the file `STATE_FILE`: weights, the optimizer's state, and a `TrainingState`.

    All processes read it; the first one writes it.
    """

    def __init__(
        self, folder: Path, network: Network, optimizer: Optimizer, scaler: GradScaler, kept: KeptWeights, plan: Plan,
        ranks: Ranks,
    ) -> None:  # fmt: skip
        self.folder, self.network, self.optimizer, self.scaler = folder, network, optimizer, scaler
        self.kept, self.plan, self.ranks = kept, plan, ranks
        self.path = folder / STATE_FILE
        self.saved = time.monotonic()

    def load(self, progress: Progress) -> TrainingState:
        """Load network, optimizer and scaler from the file; return a fresh state if there is none or it isn't resumed.

        Raises:
            CheckpointError: the file is damaged.
            DataError: the processes see different states.
        """
        if self.ranks.first:
            remove_leftovers(self.folder) if self.plan.resume else remove_state(self.folder)
        self.ranks.barrier()
        state = self._read() if self.path.exists() else TrainingState()
        if self.ranks.broadcast(state.step) != state.step:
            raise DataError(
                f"{self.folder}: the processes see different saved states; they need one workspace that all can read"
            )
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)
        if state.step:
            progress.say(f"continuing at step {state.step} of {self.plan.steps}")
        self.saved = time.monotonic()
        return state

    def is_due(self) -> bool:
        """True in the first process if it is time to save."""
        return self.ranks.first and time.monotonic() - self.saved > 60 * self.plan.checkpoint_minutes

    def save(self, state: TrainingState, buffers: dict[str, Tensor]) -> None:
        """Write the file, whole or not at all; `buffers` replace the network's buffers of the same names."""
        if not self.ranks.first:
            return
        state.scaler = self.scaler.state_dict()
        values = self.network.state_dict() | buffers
        tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in values.items()}
        for name, parameter in self.network.named_parameters():
            for what, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{what}.{name}"] = value
        tensors |= self.kept.tensors()
        save_tensors(self.path, tensors, {"training_state": asdict(state)})
        self.saved = time.monotonic()

    def _read(self) -> TrainingState:
        """Load network and optimizer from the file."""
        about = read_metadata(self.path, _REMEDY)
        try:
            state = _STATES.validate_python(about.get("training_state"))
        except ValidationError as error:
            raise CheckpointError(f"{self.path}: holds no training state; {_REMEDY}") from error
        tensors = read_tensors(self.path, _REMEDY)
        weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        fill_network(self.network, weights, self.path)
        parameters = dict(self.network.named_parameters())
        for key, value in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "optimizer":
                what, _, name = rest.partition(".")
                parameter = parameters[name]
                # use the parameter's memory layout, or the update would sum in another order
                like = parameter.detach() if value.shape == parameter.shape else value.to(parameter.device)
                self.optimizer.state[parameter][what] = torch.empty_like(like).copy_(value)
        self.kept.load(tensors)
        return state


def remove_state(folder: Path) -> None:
    """Remove a folder's saved state: its training is finished or starts over."""
    (folder / STATE_FILE).unlink(missing_ok=True)
    remove_leftovers(folder)
