"""What a network is, in plain values: enough to build it again, and all that a checkpoint says of it."""

from math import ceil
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from stmn.nets.temporal import TemporalInit, TemporalPool

Modality = Literal["rgb", "flow"]
Site = Literal["residual", "direct"]
Direction = Literal["motion_to_appearance", "appearance_to_motion", "both"]
GatedUnits = Literal["second_unit", "every_unit"]
Operand = Literal["pre_relu", "post_relu"]
#: where a ResNet keeps its strides and how it pads its first pooling
Layout = Literal["torchvision", "caffe"]

#: modality -> name of the stream that reads it
STREAMS: dict[str, str] = {"rgb": "appearance", "flow": "motion"}


class Plain(BaseModel):
    """Immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StreamConfig(Plain):
    """One stream. `width` scales the channels of the four stages; `dropout` sits before the classifier.

    `layout` is that of the starting weights: torchvision's, or that of the Caffe networks.
    """

    modality: Modality
    arch: str
    width: float = Field(1.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    layout: Layout = "torchvision"

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
    """Temporal filters and pooling (Table 3)."""

    injector: str = "none"
    init: TemporalInit = "centre"
    length: int = Field(default=3, ge=1)
    pool: TemporalPool = "average"


class NetworkConfig(Plain):
    """A network of one stream or of two tied streams.

    `size`: side of the training crop in pixels; `stack_length`: L flow fields make a stack of 2L planes.
    """

    classes: list[str] = Field(min_length=1)
    size: int = Field(ge=1)
    stack_length: int = Field(ge=1)
    streams: list[StreamConfig] = Field(min_length=1, max_length=2)
    gate: GateConfig | None = None
    temporal: TemporalConfig = TemporalConfig()

    @property
    def window(self) -> int:
        """Side of the last feature map in training, and of the average pooling at test: 7 for 224 pixels."""
        return ceil(self.size / 32)

    def planes(self, modality: str) -> int:
        """Input planes of a modality."""
        return 3 if modality == "rgb" else 2 * self.stack_length
