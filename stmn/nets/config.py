"""The configuration of a network in plain values: enough to build it again. Checkpoints hold it as JSON.

Nothing here imports torch.
"""

from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Modality = Literal["rgb", "flow"]
Site = Literal["residual", "direct"]
Direction = Literal["motion_to_appearance", "appearance_to_motion", "both"]
GatedUnits = Literal["second_unit", "every_unit"]
Operand = Literal["pre_relu", "post_relu"]
TemporalInit = Literal["centre", "average"]
TemporalPool = Literal["max", "average", "none"]
#: where the strides of a ResNet are, and how its first pooling is padded
ResNetLayout = Literal["torchvision", "caffe"]
#: the logits of two streams: each its own, their mean, or those of a linear layer over both
PredictionMode = Literal["per_stream", "averaged", "concatenated"]

#: modality -> name of the stream that reads it
STREAMS: dict[Modality, str] = {"rgb": "appearance", "flow": "motion"}
#: name of a stream -> modality that it reads
MODALITIES: dict[str, Modality] = {name: modality for modality, name in STREAMS.items()}


#: a class may have any name that is not empty
ClassName = Annotated[str, Field(min_length=1, max_length=1000)]
#: name of a plugin: `multiply`, `package:name`, `resnet50.a1_in1k`
PluginName = Annotated[str, Field(pattern=r"^[\w.:+ -]{1,200}$")]
#: options of a plugin: keyword-only parameters of the object that its entry point names
PluginOptions = dict[Annotated[str, Field(min_length=1, max_length=200)], Any]
#: upper limits: a model file may be untrusted, and its numbers decide how much memory is allocated
MAX_WIDTH, MAX_SIZE, MAX_STACK, MAX_LENGTH, MAX_CLASSES = 4, 1024, 100, 99, 100_000


class _Values(BaseModel):
    """Immutable values, without unknown keys, NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StreamConfig(_Values):
    """One stream.

    Attributes:
        modality: the modality that it reads.
        arch: a registered backbone, or a ResNet of timm.
        width: scales the channels of conv2 to conv5.
        dropout: probability of dropout before the classifier.
        layout: the layout of the starting weights.
        arch_options: options of the backbone.
    """

    modality: Modality
    arch: PluginName
    width: float = Field(default=1.0, gt=0, le=MAX_WIDTH)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    layout: ResNetLayout = "torchvision"
    arch_options: PluginOptions = {}

    @property
    def name(self) -> str:
        """`appearance` or `motion`."""
        return STREAMS[self.modality]


class GateConfig(_Values):
    """How two streams are tied (section 3.2, Figure 2, Table 2).

    Attributes:
        fusion: a registered fusion function.
        site: where the fused signal enters: only the residual branch, or (`direct`) also the skip path.
        direction: which stream sends to which.
        units: which units of the receiving stream have a gate.
        operand: the receiving stream's operand of a gate: the sum before the ReLU, as in eqs. (2) and (5), or the value
            after it. A `direct` gate always takes the value after it.
        fusion_options: options of the fusion.
    """

    fusion: PluginName = "multiply"
    site: Site = "residual"
    direction: Direction = "motion_to_appearance"
    units: GatedUnits = "second_unit"
    operand: Operand = "pre_relu"
    fusion_options: PluginOptions = {}


class TemporalConfig(_Values):
    """Temporal filters and pooling over time (section 3.3, Table 3).

    Attributes:
        injector: a registered injector, which places the filters.
        init: the initial taps of the filters, eq. (9).
        length: chunks that a filter spans; odd.
        pool: how features are pooled over time; with `none` each chunk is classified separately.
        window: pool over this many chunks at a time, at stride 1, and average the logits of all windows. By default
            all chunks are pooled at once.
        motion_injector: the motion stream's injector, if it has its own.
        injector_options: options of the injector.
        motion_injector_options: options of the motion stream's own injector.
    """

    injector: PluginName = "none"
    init: TemporalInit = "centre"
    length: int = Field(default=3, ge=1, le=MAX_LENGTH)
    pool: TemporalPool = "average"
    window: int | None = Field(default=None, ge=1, le=10_000)
    motion_injector: PluginName | None = None
    injector_options: PluginOptions = {}
    motion_injector_options: PluginOptions = {}

    def injector_of(self, modality: str) -> str:
        """The injector of the stream that reads `modality`."""
        return (self.motion_injector if modality == "flow" else None) or self.injector

    def injector_options_of(self, modality: str) -> PluginOptions:
        """The options of that injector."""
        own = modality == "flow" and self.motion_injector is not None
        return self.motion_injector_options if own else self.injector_options

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        """A window needs pooling."""
        if self.pool == "none" and self.window is not None:
            raise ValueError(f"window = {self.window} needs pooling over time, but pool = none")
        return self


class NetworkConfig(_Values):
    """A network of one stream, or of two tied streams.

    Attributes:
        classes: class names, in the order of the logits.
        size: side of the training crop, pixels.
        stack_length: L, the flow fields in a stack; the motion stream reads 2L channels.
        streams: one stream, or the appearance and the motion stream.
        gate: how two streams are tied.
        temporal: temporal filters and pooling.
        prediction: the logits of two streams, and so the losses: one for each stream, or one for both.
    """

    classes: list[ClassName] = Field(min_length=1, max_length=MAX_CLASSES)
    size: int = Field(ge=1, le=MAX_SIZE)
    stack_length: int = Field(ge=1, le=MAX_STACK)
    streams: list[StreamConfig] = Field(min_length=1, max_length=2)
    gate: GateConfig | None = None
    temporal: TemporalConfig = TemporalConfig()
    prediction: PredictionMode = "per_stream"

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        """Class names must be unique."""
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes has a name twice")
        return self

    @model_validator(mode="after")
    def _check_prediction(self) -> Self:
        """A joint prediction needs two streams."""
        if self.prediction != "per_stream" and len(self.streams) == 1:
            raise ValueError(f"prediction = {self.prediction} needs two streams, but there is one")
        return self

    @property
    def window(self) -> int:
        """Side of the last feature map in training, and of the windows averaged in testing: 7 for 224 pixels."""
        return ceil(self.size / 32)

    def in_channels(self, modality: str) -> int:
        """Channels of one chunk of a modality: 3 for RGB, 2L for flow."""
        return 3 if modality == "rgb" else 2 * self.stack_length
