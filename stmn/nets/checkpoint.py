"""Checkpoints: one safetensors file that describes itself."""

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stmn import registry
from stmn.errors import CheckpointError
from stmn.nets.backbones import PARTS, backbone_identity
from stmn.nets.build import build_network
from stmn.nets.config import NetworkConfig
from stmn.nets.network import Network
from stmn.runtime.files import atomic_write, digest
from stmn.store.format.header import Preparation

KEY = "stmn"
KEEPS = TypeAdapter(list[str])
#: what the filters in the skip path were called in older files -> what they are called now
_RENAMED = {f"stage_temporal.stage{number}.": f"skip_temporal.{part}." for number, part in enumerate(PARTS)}


class TrainedOn(BaseModel):
    """The list a model was trained on; `split_hash` tells whether another list is the same."""

    model_config = ConfigDict(frozen=True)

    data: str
    split: str
    videos: list[str]

    @property
    def split_hash(self) -> str:
        """A hash of the training list."""
        return digest(sorted(self.videos))


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself."""

    network: NetworkConfig
    preparation: Preparation
    trained_on: TrainedOn
    keeps: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def test_short_side(self) -> int:
        """The short side of whole frames in testing, pixels: the scale of training.

        Training crops 224 of a short side of 256 pixels (section 4.1), so it is 256 for a crop of 224. If the data set
        allows no crops, training sees whole frames, and so does testing.
        """
        return round(self.network.size * 256 / 224) if "crop" in self.keeps else self.network.size

    def to_json(self) -> dict[str, Any]:
        """Everything, with plugins and versions."""
        return {
            "network": self.network.model_dump(mode="json"),
            "preparation": self.preparation.model_dump(mode="json"),
            "trained_on": self.trained_on.model_dump(mode="json") | {"split_hash": self.trained_on.split_hash},
            "keeps": self.keeps,
            "training": self.training,
            "plugins": network_plugins(self.network),
            "versions": {"stmn": version("stmn")},
        }


def network_plugins(config: NetworkConfig) -> list[dict[str, str]]:
    """The plugins that a network needs: kind, name, package, version."""
    needed = [backbone_identity(stream.arch) for stream in config.streams]
    injectors = dict.fromkeys(config.temporal.injector_of(stream.modality) for stream in config.streams)
    needed.extend(registry.find("injector", name).identity for name in injectors)
    if config.gate:
        needed.append(registry.find("fusion", config.gate.fusion).identity)
    return needed


def save_checkpoint(path: Path, network: Network, description: Description) -> None:
    """Write the network's weights and description, whole or not at all."""
    save_tensors(path, network.state_dict(), description.to_json())


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors with a JSON description, whole or not at all."""
    with atomic_write(path) as temporary:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(contiguous, temporary, metadata={KEY: json.dumps(about)})
        except SafetensorError as error:  # a full disk, for one
            raise OSError(str(error)) from error


def read_about(path: Path) -> dict[str, Any]:
    """The JSON description of a file that this program wrote. Raises `CheckpointError` when it is something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        about = json.loads(metadata[KEY])
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except KeyError as error:
        raise CheckpointError(f"{path}: a safetensors file, but not one that stmn wrote") from error
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: truncated or damaged: {error}") from error
    if not isinstance(about, dict):
        raise CheckpointError(f"{path}: its description is damaged: no table")
    return about


def read_description(path: Path) -> Description:
    """A model file's description. Raises `CheckpointError` when it is no model or damaged."""
    about = read_about(path)
    if "network" not in about:
        raise CheckpointError(f"{path}: holds no network")
    try:
        return Description(
            NetworkConfig.model_validate(about["network"]),
            Preparation.model_validate(about["preparation"]),
            TrainedOn.model_validate(about["trained_on"]),
            KEEPS.validate_python(about["keeps"]),
            about["training"],
        )
    except (ValidationError, KeyError) as error:
        raise CheckpointError(f"{path}: its description is damaged: {str(error).splitlines()[0]}") from error


def load_checkpoint(path: Path) -> tuple[Network, Description]:
    """Build the network that a file describes and fill it. Raises `CheckpointError`, `PluginError` or `UsageError`."""
    description = read_description(path)
    network = build_network(description.network)
    fill(network, read_tensors(path), path)
    return network, description


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that this program wrote, by today's names: older files are read too."""
    return {_current_name(name): tensor for name, tensor in load_file(path).items()}


def _current_name(name: str) -> str:
    """What a tensor of this name is called now."""
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name


def fill(network: Network, state: dict[str, Tensor], path: Path) -> None:
    """Load a state dict. Raises `CheckpointError` naming the first tensor that does not fit."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise CheckpointError(f"{path}: weights don't fit the network: {lines[-1][:200]}") from error
