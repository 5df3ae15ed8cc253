"""Everything that an interrupted training needs to go on bit by bit as if nothing had happened."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor
from torch.optim import SGD

from stmn.errors import CheckpointError
from stmn.nets.checkpoint import fill, read_about, save_tensors
from stmn.nets.network import Network

FILE = "training.safetensors"


@dataclass
class TrainingState:
    """Steps done, validation errors and history rows so far. Randomness is a function of the step: it needs none."""

    step: int = 0
    errors: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(folder: Path, network: Network, optimizer: SGD, state: TrainingState) -> None:
    """Write weights, momentum and progress, whole or not at all."""
    tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        if (momentum := optimizer.state[parameter].get("momentum_buffer")) is not None:
            tensors[f"momentum.{name}"] = momentum
    save_tensors(folder / FILE, tensors, {"training_state": vars(state)})


def load_state(folder: Path, network: Network, optimizer: SGD) -> TrainingState:
    """Continue from a folder's state; a fresh start when there is none. Raises `CheckpointError` when it is damaged."""
    path = folder / FILE
    if not path.exists():
        return TrainingState()
    about = read_about(path)
    if "training_state" not in about:
        raise CheckpointError(f"{path}: holds no training state")
    tensors = load_file(path)
    weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    fill(network, weights, path)
    for name, parameter in network.named_parameters():
        if (momentum := tensors.get(f"momentum.{name}")) is not None:
            optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device)
    return TrainingState(**about["training_state"])
