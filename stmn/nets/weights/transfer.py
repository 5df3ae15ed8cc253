"""Starting weights from this project's own models: a stream, or the same stream of a fused network."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from stmn.errors import UsageError, count_of
from stmn.nets.backbones import replicate_filters
from stmn.nets.checkpoint import Description, read_description
from stmn.nets.config import Modality, NetworkConfig, StreamConfig
from stmn.nets.stream import Stream
from stmn.nets.weights.pretrained import fill_backbone
from stmn.runtime.tensor_files import is_ours, read_tensors
from stmn.store.format.header import Preparation


def is_model_file(path: Path) -> bool:
    """True for a file that this project wrote, such as a model; False for any other, even an unreadable one."""
    return is_ours(path)


def choose_stream(network: NetworkConfig, modality: Modality, label: str) -> StreamConfig:
    """Return the stream of a model that a new stream starts from.

    It is the one that reads the same modality. A motion stream may also start from an appearance stream, just as it may
    from ImageNet weights.

    Args:
        network: the model's configuration.
        modality: modality of the new stream.
        label: the model's name in messages.

    Raises:
        UsageError: the model has no such stream.
    """
    by_modality = {stream.modality: stream for stream in network.streams}
    if modality in by_modality:
        return by_modality[modality]
    if modality == "rgb":
        raise UsageError(f"{label}: has a motion stream only, and an appearance stream can't start from that")
    return by_modality["rgb"]


def check_stream(source: StreamConfig, arch: str, width: float, label: str) -> None:
    """Make sure that a stream has the architecture and width of the one that starts from it.

    Args:
        source: the trained stream.
        arch: architecture of the new stream; a tag, as in `resnet50.a1_in1k`, doesn't matter.
        width: width of the new stream.
        label: the model's name in messages.

    Raises:
        UsageError: it doesn't.
    """
    if (source.arch.partition(".")[0], source.width) != (arch.partition(".")[0], width):
        raise UsageError(
            f"{label}: its {source.name} stream is a {source.arch} of width {source.width:g}, not a {arch} of width "
            f"{width:g}; use --arch {source.arch} --width {source.width:g}"
        )


@dataclass(frozen=True)
class TrainedStream:
    """A stream of a model file, to start another one from.

    Attributes:
        path: the model file.
        label: its name in messages.
        description: the description in the file.
        stream: the stream.
    """

    path: Path
    label: str
    description: Description
    stream: StreamConfig

    def fill(self, stream: Stream, config: NetworkConfig) -> str:
        """Load the trained weights into a new stream; return a line about what was loaded and what was not.

        The classifier is loaded if the new stream reads the same modality and has the same classes in the same order.
        Temporal filters and gates are not loaded.

        Args:
            stream: changed in place.
            config: the network of the new stream.

        Raises:
            CheckpointError: the weights don't fit. The stream is unchanged.
        """
        prefix, source = f"streams.{self.stream.name}.", self.description.network
        state = {n.removeprefix(prefix): v for n, v in read_tensors(self.path).items() if n.startswith(prefix)}
        backbone = {n.removeprefix("backbone."): v for n, v in state.items() if n.startswith("backbone.")}
        notes = [f"{self.label}, its {self.stream.name} stream"]
        filters = []
        if source.temporal.injector_of(self.stream.modality) != "none":
            own = stream.backbone.state_dict()
            filters = [name for name in backbone if name not in own]
        if filters:
            notes.append("without its temporal filters")
        first = next(iter(stream.backbone.state_dict()))
        modality = config.streams[0].modality
        if first in backbone:
            backbone[first], changed = _fit_conv1(
                backbone[first], config.in_channels(modality), self.stream.modality == modality
            )
            notes += changed
        kept = {name: value for name, value in backbone.items() if name not in filters}
        fill_backbone(stream.backbone, kept, self.path, config.streams[0].arch)
        if source.classes == config.classes and self.stream.modality == modality:
            stream.fc.load_state_dict({name: state[f"fc.{name}"] for name in ("weight", "bias")})
        else:
            notes.append(f"a new classifier, {self._compare_classes(config)}")
        return "; ".join(notes)

    def compare_flow(self, preparation: Preparation, modality: Modality) -> list[str]:
        """List how the flow that the stream was trained on differs from a set's: `bound = 20, here 5`.

        Args:
            preparation: how the set's pictures were made.
            modality: modality of the new stream; rgb reads no flow.
        """
        if (modality, self.stream.modality) != ("flow", "flow"):
            return []
        known = self.description.preparation
        return [
            f"{key} = {getattr(known, key)}, here {getattr(preparation, key)}"
            for key in ("flow", "flow_options", "bound", "camera_motion", "fps")
            if getattr(known, key) != getattr(preparation, key)
        ]

    def _compare_classes(self, config: NetworkConfig) -> str:
        """Return the reason for a new classifier."""
        known, wanted = self.description.network.classes, config.classes
        if self.stream.modality != config.streams[0].modality:
            return f"because that stream reads {self.stream.modality}"
        if len(known) != len(wanted):
            return f"because it knows {count_of(len(known), 'class', 'classes')} and this set has {len(wanted)}"
        if set(known) == set(wanted):
            return f"because its {len(known)} classes are in another order"
        return f"because its {len(known)} classes have other names"


def read_trained_stream(path: Path, label: str, modality: Modality) -> TrainedStream:
    """Read from a model file the description of the stream that a new one starts from.

    Args:
        path: a file for which `is_model_file` is true.
        label: its name in messages.
        modality: modality of the new stream.

    Raises:
        CheckpointError: it is damaged, or not a model.
        UsageError: it has no stream that fits.
    """
    description = read_description(path)
    return TrainedStream(path, label, description, choose_stream(description.network, modality, label))


def _fit_conv1(weight: Tensor, in_channels: int, same_modality: bool) -> tuple[Tensor, list[str]]:
    """Adapt conv1's filters to another number of input channels; return them and notes about it."""
    if weight.ndim != 4 or weight.shape[1] == in_channels:
        return weight, []
    if not same_modality:
        return replicate_filters(weight, in_channels), ["conv1 averaged over its colours, for each flow channel"]
    before, after = weight.shape[1] // 2, in_channels // 2
    # the mean over the stack for u and for v, scaled so that the sum over the new stack equals that over the old one:
    # motion that is constant in time then has the same response
    mean = weight.unflatten(1, (before, 2)).mean(dim=1)
    filters = (mean * (before / after)).repeat(1, after, 1, 1)
    return filters, [f"conv1 averaged over its stack of {before} fields, for a stack of {after}"]
