"""A trained network, with the description of its input from its checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stmn.errors import DataError, UsageError, count_of
from stmn.evaluation.features import compute_features
from stmn.evaluation.inference import check_finite, compute_in_memory, for_inference
from stmn.evaluation.passes import PassLimit
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.video_input import VideoInput, make_input
from stmn.flow.estimator import load_estimator
from stmn.flow.pairs import LocalFields
from stmn.nets.checkpoint import Description
from stmn.nets.network import FUSED, Network
from stmn.nets.outside import OutsideNetwork
from stmn.runtime.device import Device
from stmn.runtime.progress import Silent
from stmn.sampling.augment import mirror_order
from stmn.sampling.positions import spread_positions, stack_times


@dataclass(frozen=True)
class ClassScore:
    """A class and its probability, 0..1: the softmax of the logits averaged over streams."""

    class_name: str
    score: float


@dataclass(frozen=True)
class ChunkPlan:
    """The frames and flow fields that a video's chunks read.

    Attributes:
        frame_count: Frames of the whole video.
        times: The frame number of each chunk.
        stacks: For each chunk the L flow fields of its stack. Field i leads from frame i to frame i + 1.
    """

    frame_count: int
    times: list[int]
    stacks: list[list[int]]

    @property
    def fields(self) -> list[int]:
        """All flow fields in order, each once."""
        return sorted({i for stack in self.stacks for i in stack})


class Classifier:
    """Classifies frames and flow, prepared as for training, with a network.

    Args:
        network: The trained network. It is moved to the device and set to evaluation mode.
        description: The checkpoint's description: classes, preparation, allowed augmentations.
        device: Where to compute.
        stream: The output to use if the network has several ("appearance", "motion"). By default their mean.
    """

    def __init__(self, network: Network, description: Description, device: Device, stream: str | None = None) -> None:
        self.network = network
        self.description = description
        self.device = device
        self.stream = stream
        device.place(network).eval()
        #: a faster copy that gives the same logits
        self.fast_network = for_inference(network, device)
        self._limit = PassLimit(device, Silent())

    @property
    def classes(self) -> list[str]:
        """The class names, in the order of the logits."""
        return self.description.network.classes

    @property
    def stack_length(self) -> int:
        """L, the number of flow fields in a stack."""
        return self.description.network.stack_length

    @property
    def uses_all_outputs(self) -> bool:
        """True unless `stream` selects one of several outputs."""
        return self.stream is None or len(self.network.outputs) == 1

    @property
    def reads_flow(self) -> bool:
        """True if one of the streams is motion."""
        return "motion" in self.network.names

    def field_maker(self) -> LocalFields:
        """Make what computes flow as for training, on the model's device; zeros if no stream reads flow.

        Raises:
            PluginError: The flow plugin is not installed.
        """
        how = self.description.preparation
        if not self.reads_flow:
            return LocalFields(_zero_flow, how.bound, how.camera_motion)
        flow = load_estimator(how.flow, how.flow_options)
        return LocalFields(flow, how.bound, how.camera_motion, self.device.device)

    def protocol(self, chunks: int, flips: bool = True) -> Protocol:
        """The protocol with `chunks` chunks and whole frames; also mirrored ones if the training data allowed it."""
        pairs = self.description.mirror_pairs
        return Protocol(
            mirror_order=mirror_order(self.classes, pairs) if pairs else None,
            chunks=chunks,
            flips=flips and "mirror" in self.description.keeps,
            short_side=self.description.test_short_side,
            crop=self.description.network.size,
            precision=self.device.precision_name,
        )

    def plan_chunks(self, frame_count: int, chunks: int, name: str) -> ChunkPlan:
        """Choose the frames and flow fields to read from a video called `name`.

        Raises:
            DataError: The video has no frames, or one frame and the model reads flow.
        """
        if frame_count == 0:
            raise DataError(f"{name}: holds no frames")
        if self.reads_flow and frame_count == 1:
            raise DataError(f"{name}: one frame has no motion, and this model reads flow")
        times = spread_positions(frame_count, self.stack_length, chunks)
        return ChunkPlan(frame_count, times, [stack_times(t, frame_count, self.stack_length) for t in times])

    def make_input(
        self, plan: ChunkPlan, frames: Mapping[int, Tensor], flow: Mapping[int, Tensor], protocol: Protocol
    ) -> VideoInput:
        """Collect the network's input.

        Args:
            plan: The frames and fields that the chunks read.
            frames: Frame number -> (3, H, W) uint8.
            flow: Field number -> (2, H, W) uint8 flow levels.
            protocol: Has the short side to resize to.
        """
        fields = plan.fields
        return make_input(
            torch.stack([frames[t] for t in plan.times]) if "appearance" in self.network.names else None,
            torch.stack([flow[i] for i in fields]) if self.reads_flow else None,
            torch.tensor([[fields.index(i) for i in stack] for stack in plan.stacks]),
            protocol,
            self.device,
        )

    def compute_logits(self, given: VideoInput, protocol: Protocol, name: str) -> list[Tensor]:
        """Compute (classes,) logits of each output in use: `stream` alone, or all outputs of the network.

        Args:
            given: The network's input.
            protocol: Has the views to average over.
            name: The video's name in error messages.

        Raises:
            DataError: A logit is NaN or infinite.
            StmnError: There is not enough memory.
        """
        logits = compute_in_memory(self.fast_network, [given.on(self.device)], protocol, self.device, self._limit)
        named = dict(zip(self.network.outputs, logits, strict=True))
        used = {output: batch[0] for output, batch in named.items() if self.stream in (None, output)}
        for output, row in used.items():
            check_finite(row, f"{name}: the network's {output} scores", protocol.precision)
        return list(used.values())

    def compute_features(self, given: VideoInput, protocol: Protocol, name: str) -> dict[str, Tensor]:
        """Compute stream -> (C,) pooled features, of `stream` alone or of all streams of the network.

        Args:
            given: The network's input.
            protocol: Has the views to average over.
            name: The video's name in error messages.

        Raises:
            UsageError: The model is an exported file.
            DataError: A feature is NaN or infinite.
            StmnError: There is not enough memory.
        """
        self.check_inside("features")
        computed = compute_features(self.fast_network, given.on(self.device), protocol, self.device, self._limit)
        named = dict(zip(self.network.names, computed, strict=True))
        used = {stream: row for stream, row in named.items() if self.stream in (None, FUSED, stream)}
        for stream, row in used.items():
            check_finite(row, f"{name}: the network's {stream} features", protocol.precision)
        return used

    def check_inside(self, what: str) -> None:
        """Raise `UsageError` if the model is an exported file, whose inside can't be read; `what` needs that."""
        if isinstance(self.network, OutsideNetwork):
            raise UsageError(
                f"{what}: this model is an exported file, which gives logits alone; name the model file that it was "
                f"made of"
            )

    def padding_notice(self, frame_count: int) -> str:
        """A notice that `frame_count` frames are fewer than a flow stack spans; empty if they are enough."""
        if not self.reads_flow or frame_count > self.stack_length:
            return ""
        return (
            f"{count_of(frame_count, 'frame is', 'frames are')} too few for a stack of {self.stack_length} flow "
            f"fields: the first and the last field are repeated"
        )

    def rank(self, logits: Tensor) -> list[ClassScore]:
        """Rank all classes, most probable first, by (classes,) logits averaged over the outputs in use.

        The logits are divided by the model's temperature, unless one of several outputs is used: the temperature is
        fitted to their mean.
        """
        temperature = self.description.temperature if self.uses_all_outputs else 1.0
        values = (logits / temperature).softmax(dim=0)
        return [ClassScore(self.classes[i], float(values[i])) for i in values.argsort(descending=True).tolist()]


def _zero_flow(first: Tensor, second: Tensor) -> Tensor:
    """Return zeros in place of flow that no stream reads."""
    return torch.zeros(len(first), 2, *first.shape[1:])
