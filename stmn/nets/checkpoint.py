"""Model files: the weights of a network with all that is needed to use it, in one safetensors file."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from stmn import registry
from stmn.errors import CheckpointError, describe_mistake
from stmn.nets.backbones import backbone_identity
from stmn.nets.build import build_network
from stmn.nets.config import NetworkConfig
from stmn.nets.network import Network
from stmn.runtime.files import digest
from stmn.runtime.tensor_files import read_metadata, read_tensors, save_tensors
from stmn.store.format.header import Preparation
from stmn.store.format.read import StoredVideo

_KEEPS = TypeAdapter(list[str])
_PAIRS = TypeAdapter(dict[str, str])


class HeldOut(BaseModel):
    """The validation list of a model: training videos that it did not learn from.

    Attributes:
        videos: their ids.
        share: the fraction of the training list that was asked for, 0..1.
        seed: what decided which.
    """

    model_config = ConfigDict(frozen=True)

    videos: list[str]
    share: float
    seed: int


class TrainedOn(BaseModel):
    """What a model has learned from.

    Attributes:
        data: name of the prepared set.
        split: name of the split.
        videos: ids of the videos of that set that it learned from, in this training or an earlier one.
        contents: hashes of the video files that it learned from, of whichever set; empty in older files.
        held_out: its validation list; None in older files, where `videos` includes what was held out.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    split: str
    videos: list[str]
    contents: list[str] = []
    held_out: HeldOut | None = None

    @property
    def split_hash(self) -> str:
        """A hash of the videos, in any order."""
        return digest(sorted(self.videos))

    def seen(self, videos: Iterable[StoredVideo], data: str) -> list[StoredVideo]:
        """The videos of a set that the model learned from, whatever they are called there.

        Args:
            videos: videos of the set.
            data: name of the set.
        """
        ids, contents = set(self.videos) if data == self.data else set(), set(self.contents)
        return [video for video in videos if video.id in ids or (video.source_hash and video.source_hash in contents)]


@dataclass(frozen=True)
class Description:
    """What a model file says about its network.

    Attributes:
        network: enough to build it again.
        preparation: how the frames and the flow of its training data were made.
        trained_on: its training list.
        keeps: the augmentations that leave the class of a training clip as it is: `mirror`, `crop`.
        training: the options it was trained with.
        batch_statistics: how those of its batch normalisation were made; empty in older files.
        mirror_pairs: classes that change places in a mirror, both ways; empty in older files.
    """

    network: NetworkConfig
    preparation: Preparation
    trained_on: TrainedOn
    keeps: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    batch_statistics: dict[str, Any] = field(default_factory=dict)
    mirror_pairs: dict[str, str] = field(default_factory=dict)

    @property
    def test_short_side(self) -> int:
        """The short side of whole frames in testing, pixels: the scale of training.

        Training crops 224 of a short side of 256 pixels (section 4.1), so it is 256 for a crop of 224. If the data set
        allows no crops, training sees whole frames, and so does testing.
        """
        return round(self.network.size * 256 / 224) if "crop" in self.keeps else self.network.size

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, with the plugins that the network needs and versions."""
        return {
            "network": self.network.model_dump(mode="json"),
            "preparation": self.preparation.model_dump(mode="json"),
            "trained_on": self.trained_on.model_dump(mode="json") | {"split_hash": self.trained_on.split_hash},
            "keeps": self.keeps,
            "training": self.training,
            "batch_statistics": self.batch_statistics,
            "mirror_pairs": self.mirror_pairs,
            "plugins": _list_plugins(self.network),
            "versions": {"stmn": version("stmn")},
        }


def save_checkpoint(path: Path, network: Network, description: Description) -> None:
    """Write a model file, whole or not at all. Raises `OSError` if it can't be written."""
    save_tensors(path, network.state_dict(), description.to_json())


def read_description(path: Path) -> Description:
    """Read the description in a model file. The weights are not read.

    Raises:
        CheckpointError: there is no such file, or it is damaged or not a model file.
    """
    values = read_metadata(path)
    if "network" not in values:
        raise CheckpointError(f"{path}: not a model file: it describes no network")
    try:
        return Description(
            NetworkConfig.model_validate(values["network"]),
            Preparation.model_validate(values["preparation"]),
            TrainedOn.model_validate(values["trained_on"]),
            _KEEPS.validate_python(values["keeps"]),
            values["training"],
            values.get("batch_statistics", {}),
            _PAIRS.validate_python(values.get("mirror_pairs", {})),
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: its description is damaged: {error} is missing") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{path}: its description is damaged: {where} {describe_mistake(first)}") from error


def load_checkpoint(path: Path) -> tuple[Network, Description]:
    """Build the network of a model file and fill it with its weights.

    Raises:
        CheckpointError: there is no such file, or it is damaged or not a model file.
        PluginError: it needs a plugin that is missing or can't be loaded.
        UsageError: it needs a backbone that doesn't exist.
    """
    description = read_description(path)
    network = build_network(description.network)
    fill_network(network, read_tensors(path), path)
    return network, description


def fill_network(network: Network, state: dict[str, Tensor], path: Path) -> None:
    """Load a state dict that was read from `path` into a network.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise CheckpointError(f"{path}: its weights don't fit the network: {lines[-1][:200]}") from error


def _list_plugins(config: NetworkConfig) -> list[dict[str, str]]:
    """Kind, name, package and version of each plugin that a network needs."""
    needed = [backbone_identity(stream.arch) for stream in config.streams]
    injectors = dict.fromkeys(config.temporal.injector_of(stream.modality) for stream in config.streams)
    needed.extend(registry.find("injector", name).identity for name in injectors)
    if config.gate:
        needed.append(registry.find("fusion", config.gate.fusion).identity)
    return needed
