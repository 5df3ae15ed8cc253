"""Model files: the weights of a network with everything needed to use it, in one safetensors file."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from stmn.errors import CheckpointError, PluginError, UsageError, describe_mistake
from stmn.nets.build import build_network, sketch_network
from stmn.nets.calibration import Calibration
from stmn.nets.config import NetworkConfig
from stmn.nets.needed import check_needed, list_plugins, name_packages, read_needed
from stmn.nets.network import Network
from stmn.nets.training_list import list_path, read_list, write_list
from stmn.runtime.files import digest
from stmn.runtime.tensor_files import format_shape, read_metadata, read_shapes, read_tensors, save_tensors
from stmn.store.format.header import Preparation
from stmn.store.format.read import StoredVideo

#: most videos listed in the header of a model file; safetensors can't open headers of 100 MB
MOST_LISTED = 100_000
_KEEPS = TypeAdapter(list[str])
_PAIRS = TypeAdapter(dict[str, str])
_TABLE = TypeAdapter(dict[str, Any])
_TEXT = TypeAdapter(str)


class HeldOut(BaseModel):
    """The validation list of a model: training videos that it was not trained on.

    Attributes:
        videos: their ids.
        share: the fraction of the training list that was asked for, 0..1.
        seed: the seed that chose the videos.
    """

    model_config = ConfigDict(frozen=True)

    videos: list[str]
    share: float = Field(ge=0, le=1)
    seed: int


class TrainedOn(BaseModel):
    """The videos that a model was trained on.

    Attributes:
        data: name of the prepared set.
        split: name of the split.
        videos: ids of the videos of that set that it was trained on, in this training or an earlier one.
        contents: hashes of the video files that it was trained on, from any set; empty in older files.
        held_out: its validation list; None in older files, where `videos` includes the held-out videos.
        count: the number of videos, if the lists are left out.
        list_hash: their `split_hash`, if the lists are left out.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    split: str
    videos: list[str]
    contents: list[str] = []
    held_out: HeldOut | None = None
    count: int | None = Field(default=None, ge=0)
    list_hash: str | None = None

    @property
    def split_hash(self) -> str:
        """A hash of the videos; their order doesn't matter."""
        return self.list_hash or digest(sorted(self.videos))

    @property
    def lists(self) -> dict[str, Any]:
        """The lists of videos and of their hashes, and the validation list, in plain values."""
        return self.model_dump(mode="json", include={"videos", "contents", "held_out"})

    def without_lists(self) -> "TrainedOn":
        """Return a copy for a file meant for others: with the number and hash of the videos, not their names."""
        if self.list_hash:
            return self
        return TrainedOn(data=self.data, split=self.split, videos=[], count=len(self.videos), list_hash=self.split_hash)

    def seen(self, videos: Iterable[StoredVideo], data: str) -> list[StoredVideo]:
        """Return the videos of a set that the model was trained on, even if they have other names there.

        Args:
            videos: videos of the set.
            data: name of the set.
        """
        ids, contents = set(self.videos) if data == self.data else set(), set(self.contents)
        return [video for video in videos if video.id in ids or (video.source_hash and video.source_hash in contents)]


@dataclass(frozen=True)
class Description:
    """The description of a network in its model file.

    Attributes:
        network: the configuration, enough to build it again.
        preparation: how the frames and the flow of its training data were made.
        trained_on: its training list.
        keeps: the augmentations that don't change the class of a training clip: `mirror`, `crop`.
        training: the options it was trained with.
        batch_statistics: how its batch statistics were made; empty in older files.
        mirror_pairs: classes that mirroring exchanges, both ways; empty in older files.
        licence: the licence of the weights, in a file meant for others; empty if not stated.
        calibration: its temperature, if one has been fitted.
    """

    network: NetworkConfig
    preparation: Preparation
    trained_on: TrainedOn
    keeps: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    batch_statistics: dict[str, Any] = field(default_factory=dict)
    mirror_pairs: dict[str, str] = field(default_factory=dict)
    licence: str = ""
    calibration: Calibration | None = None

    @property
    def temperature(self) -> float:
        """The temperature that divides mean logits before the softmax; 1 if none has been fitted."""
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def test_short_side(self) -> int:
        """The short side of whole frames in testing, in pixels: the scale of training.

        Training crops 224 pixels from a short side of 256 (section 4.1), so it is 256 for a crop of 224. If the data
        set allows no crops, training and testing both see whole frames.
        """
        return round(self.network.size * 256 / 224) if "crop" in self.keeps else self.network.size

    @property
    def blank(self) -> Literal["appearance", "motion"] | None:
        """The stream that saw noise in training, as a control."""
        known: tuple[Literal["appearance", "motion"], ...] = ("appearance", "motion")
        return next((name for name in known if self.training.get("blank") == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, including the plugins that the network needs, and versions."""
        listed = {"count", "list_hash"} if self.trained_on.list_hash is None else None
        trained_on = self.trained_on.model_dump(mode="json", exclude=listed)
        return {
            "network": self.network.model_dump(mode="json"),
            "preparation": self.preparation.model_dump(mode="json"),
            "trained_on": trained_on | {"split_hash": self.trained_on.split_hash},
            "keeps": self.keeps,
            "training": self.training,
            "batch_statistics": self.batch_statistics,
            "mirror_pairs": self.mirror_pairs,
            "plugins": list_plugins(self.network),
            "versions": {"stmn": version("stmn")},
            **({"licence": self.licence} if self.licence else {}),
            **({"calibration": self.calibration.model_dump(mode="json")} if self.calibration else {}),
        }


def save_checkpoint(path: Path, network: Network, description: Description) -> None:
    """Write a model file, whole or not at all.

    A training list too long for the file's header goes into a file beside it, and its hash into the header.

    Raises:
        OSError: it can't be written.
    """
    known = description.trained_on
    if len(known.videos) > MOST_LISTED:
        write_list(path, known.lists)
        description = replace(description, trained_on=known.without_lists())
    save_tensors(path, network.state_dict(), description.to_json())


def read_description(path: Path) -> Description:
    """Read the description in a model file, and the training list beside it if it has none. The weights are not read.

    Raises:
        CheckpointError: there is no such file, or it is damaged or not a model file.
    """
    description = parse_description(read_metadata(path), path)
    known = description.trained_on
    if known.list_hash and (lists := read_list(path, known.list_hash)):
        try:
            whole = TrainedOn.model_validate({**lists, "data": known.data, "split": known.split})
        except ValidationError as error:
            raise CheckpointError(f"{list_path(path)}: is damaged; delete it, or use another copy") from error
        description = replace(description, trained_on=whole)
    return description


def parse_description(values: dict[str, Any], path: Path) -> Description:
    """Make a description from plain values, as `Description.to_json` returns them.

    Args:
        values: the plain values; they may be untrusted.
        path: the file that they come from.

    Raises:
        CheckpointError: they don't describe a network.
    """
    if "network" not in values:
        raise CheckpointError(f"{path}: not a model file: it describes no network")
    try:
        network = NetworkConfig.model_validate(values["network"])
        pairs = _PAIRS.validate_python(values.get("mirror_pairs", {}))
        if not pairs.keys() | set(pairs.values()) <= set(network.classes):
            raise CheckpointError(f"{path}: its description is damaged: mirror_pairs names an unknown class")
        return Description(
            name_packages(network, read_needed(path, values)),
            Preparation.model_validate(values["preparation"]),
            TrainedOn.model_validate(values["trained_on"]),
            _KEEPS.validate_python(values["keeps"]),
            _TABLE.validate_python(values["training"]),
            _TABLE.validate_python(values.get("batch_statistics", {})),
            pairs,
            _TEXT.validate_python(values.get("licence", "")),
            None if values.get("calibration") is None else Calibration.model_validate(values["calibration"]),
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: its description is damaged: {error} is missing") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:200] or "it"
        raise CheckpointError(f"{path}: its description is damaged: {where} {describe_mistake(first)}") from error


def load_checkpoint(path: Path) -> tuple[Network, Description]:
    """Build the network of a model file and fill it with its weights.

    Raises:
        CheckpointError: there is no such file, or it is damaged or not a model file.
        PluginError: it needs a plugin that is missing or can't be loaded.
        UsageError: it needs a backbone that doesn't exist.
    """
    description = read_description(path)
    check_needed(path, read_needed(path, read_metadata(path)))
    try:
        expected = sketch_network(description.network).state_dict()
    except (UsageError, PluginError) as error:
        raise type(error)(f"{path}: {error}") from error
    # checked before memory is allocated: the network is then no larger than the file
    if mistake := _compare_shapes(expected, read_shapes(path)):
        raise CheckpointError(f"{path}: its weights don't fit the network that it describes: {mistake}")
    network = build_network(description.network)
    fill_network(network, read_tensors(path), path)
    return network, description


def _compare_shapes(expected: dict[str, Tensor], found: dict[str, tuple[int, ...]]) -> str:
    """Return the first difference between the tensors of a network and of a file; empty if there is none."""
    for name, tensor in expected.items():
        if name not in found:
            return f"it lacks {name}"
        if tuple(tensor.shape) != found[name]:
            return f"{name} is {format_shape(found[name])}, not {format_shape(tensor.shape)}"
    return next((f"it has {name[:200]!r}" for name in found if name not in expected), "")


def _find_broken(item: tuple[str, Tensor], expected: dict[str, Tensor]) -> str:
    """Return the mistake in a tensor's values; empty if there is none."""
    name, tensor = item
    if tensor.is_complex() or (name in expected and tensor.is_floating_point() != expected[name].is_floating_point()):
        return f"{name[:200]} holds numbers of the wrong type, {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.is_floating_point() and not tensor.isfinite().all():
        return f"{name[:200]} has NaN or infinite values"
    return f"{name} has negative variances" if name.endswith("running_var") and bool((tensor < 0).any()) else ""


def fill_network(network: Network, state: dict[str, Tensor], path: Path) -> None:
    """Load a state dict that was read from `path` into a network.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape or not finite.
    """
    if mistake := next(filter(None, map(_find_broken, state.items(), repeat(network.state_dict()))), ""):
        raise CheckpointError(f"{path}: {mistake}: its training diverged, or it is damaged")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise CheckpointError(f"{path}: its weights don't fit the network: {lines[-1][:200]}") from error
