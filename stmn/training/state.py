"""Everything that an interrupted training needs to go on bit by bit as if nothing had happened."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import SGD

from stmn.errors import CheckpointError
from stmn.nets.checkpoint import fill, read_about, save_tensors
from stmn.nets.network import Network

STATE_FILE = "training.safetensors"


@dataclass
class TrainingState:
    """Steps done, validation errors and history rows so far, and the scale of losses in float16.

    Randomness is a function of the step: it needs nothing here.
    """

    step: int = 0
    errors: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    scaler: dict[str, Any] = field(default_factory=dict)


def save_state(
    folder: Path, network: Network, optimizer: SGD, state: TrainingState, buffers: dict[str, Tensor] | None = None
) -> None:
    """Write weights, momentum and progress, whole or not at all; `buffers` in place of the network's own."""
    values = network.state_dict() | (buffers or {})
    tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in values.items()}
    for name, parameter in network.named_parameters():
        if (momentum := optimizer.state[parameter].get("momentum_buffer")) is not None:
            tensors[f"momentum.{name}"] = momentum
    save_tensors(folder / STATE_FILE, tensors, {"training_state": asdict(state)})


def load_state(folder: Path, network: Network, optimizer: SGD) -> TrainingState:
    """Continue from a folder's state; a fresh start when there is none. Raises `CheckpointError` when it is damaged."""
    path = folder / STATE_FILE
    if not path.exists():
        return TrainingState()
    about = read_about(path)
    try:
        state = TrainingState(**about["training_state"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: holds no training state; start anew with --no-resume") from error
    tensors = load_file(path)
    weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    fill(network, weights, path)
    for name, parameter in network.named_parameters():
        if (momentum := tensors.get(f"momentum.{name}")) is not None:
            # in the parameter's memory layout, or the update would be summed in another order
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
    return state


def remove_state(folder: Path) -> None:
    """Remove a folder's state: its training is done, or is to start anew."""
    (folder / STATE_FILE).unlink(missing_ok=True)
    remove_unfinished(folder)


def remove_unfinished(folder: Path) -> None:
    """Remove what processes killed in the middle of writing a state or a model have left."""
    for pattern in (".*.safetensors.*", ".tmp*"):  # our temporary files, and those that safetensors fills them by
        for left in folder.glob(pattern):
            left.unlink(missing_ok=True)
