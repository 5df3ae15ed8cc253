"""What a network is, in plain values: enough to build it again, and all that a checkpoint says of it."""

from math import ceil
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stmn.nets.temporal import TemporalInit, TemporalPool

Modality = Literal["rgb", "flow"]
Site = Literal["residual", "direct"]
Direction = Literal["motion_to_appearance", "appearance_to_motion", "both"]
GatedUnits = Literal["second_unit", "every_unit"]
Operand = Literal["pre_relu", "post_relu"]
#: where a ResNet has its strides, and how it pads its first pooling
ResNetLayout = Literal["torchvision", "caffe"]
PredictionMode = Literal["per_stream", "averaged", "concatenated"]

#: modality -> name of the stream that reads it
STREAMS: dict[Modality, str] = {"rgb": "appearance", "flow": "motion"}
#: name of a stream -> modality that it reads
MODALITIES: dict[str, Modality] = {name: modality for modality, name in STREAMS.items()}


class Plain(BaseModel):
    """Immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StreamConfig(Plain):
    """One stream. `width` scales the channels of the four parts; `dropout` sits before the classifier.

    `layout` is that of the starting weights: torchvision's, or that of the Caffe networks.
    """

    modality: Modality
    arch: str
    width: float = Field(1.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    layout: ResNetLayout = "torchvision"

    @property
    def name(self) -> str:
        """`appearance` or `motion`."""
        return STREAMS[self.modality]


class GateConfig(Plain):
    """How two streams are tied (Figure 2, Table 2)."""

    fusion: str = "multiply"
    site: Site = "residual"
    direction: Direction = "motion_to_appearance"
    units: GatedUnits = "second_unit"
    operand: Operand = "pre_relu"


class TemporalConfig(Plain):
    """Temporal filters and pooling (Table 3).

    `pool` is over all chunks, or over `window` chunks at a time, at stride 1, after which the windows' logits are
    averaged; with `none` every chunk is classified by itself. `motion_injector`: the motion stream's, where it is not
    `injector`.
    """

    injector: str = "none"
    init: TemporalInit = "centre"
    length: int = Field(default=3, ge=1)
    pool: TemporalPool = "average"
    window: int | None = Field(default=None, ge=1)
    motion_injector: str | None = None

    def injector_of(self, modality: str) -> str:
        """The injector of the stream that reads a modality."""
        return (self.motion_injector if modality == "flow" else None) or self.injector

    @model_validator(mode="after")
    def pooled_in_windows(self) -> Self:
        """A window says over what is pooled."""
        if self.pool == "none" and self.window is not None:
            raise ValueError(f"window = {self.window} without pooling over time: pool is none")
        return self


class NetworkConfig(Plain):
    """A network of one stream or of two tied streams.

    `size`: side of the training crop in pixels; `stack_length`: L flow fields make a stack of 2L channels.
    `prediction`: what two streams predict, and with it the losses: each its own logits (two losses), or the mean of
    both or a linear layer over both (one loss).
    """

    classes: list[str] = Field(min_length=1)
    size: int = Field(ge=1)
    stack_length: int = Field(ge=1)
    streams: list[StreamConfig] = Field(min_length=1, max_length=2)
    gate: GateConfig | None = None
    temporal: TemporalConfig = TemporalConfig()
    prediction: PredictionMode = "per_stream"

    @model_validator(mode="after")
    def two_to_join(self) -> Self:
        """A joint prediction is one of two streams."""
        if self.prediction != "per_stream" and len(self.streams) == 1:
            raise ValueError(f"prediction = {self.prediction} joins two streams, and here is one")
        return self

    @property
    def window(self) -> int:
        """Side of the last feature map in training, and of the average pooling at test: 7 for 224 pixels."""
        return ceil(self.size / 32)

    def in_channels(self, modality: str) -> int:
        """Input channels of a modality."""
        return 3 if modality == "rgb" else 2 * self.stack_length
