"""How a result was measured."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from stmn.errors import count_of
from stmn.runtime.device import NamedPrecision
from stmn.sampling.augment import Crop
from stmn.sampling.noise import BlankStream, Noise

Spatial = Literal["fully_conv", "ten_crop", "centre_crop"]
Pool = Literal["window", "global"]
#: what is averaged: logits, as in the authors' code, or probabilities
Average = Literal["logits", "softmax"]


class Protocol(BaseModel):
    """How videos are tested (section 4.2: 25 chunks, whole frames and their mirrors).

    Attributes:
        chunks: The number of chunks, spread evenly over the video.
        flips: Also average over mirrored frames.
        spatial: Whole frames, ten crops (corners, centre and their mirrors), or the centre crop.
        pool: "window" averages the last feature map over windows of its size in training and classifies each one, as
            the authors' code does. "global" averages over the whole map first.
        temporal_pool: Pooling over time; None for the one the network was trained with.
        temporal_window: Chunks that are pooled together; None for all.
        short_side: The short side of the frames, in pixels.
        crop: The side of a crop, in pixels.
        precision: Type of the convolutions; the classifier and all averages are float32.
        blank: The stream that saw noise instead of its pictures, as a control; None if both saw pictures.
        average: What is averaged over positions, chunks, mirrors and streams: logits, as in the authors' code, or
            probabilities.
        data: The data set.
        data_fingerprint: Identifies the content of the data set.
        split: The split of the data set.
        part: The part of the split. "validation" is the videos that training held out of the training list.
    """

    model_config = ConfigDict(frozen=True)

    chunks: int = 25
    flips: bool = True
    spatial: Spatial = "fully_conv"
    pool: Pool = "window"
    temporal_pool: Literal["max", "average", "none"] | None = None
    temporal_window: int | None = None
    short_side: int
    crop: int
    precision: NamedPrecision = "float32"
    average: Average = "logits"
    blank: BlankStream | None = None
    data: str = ""
    data_fingerprint: str = ""
    split: str = ""
    part: str = "test"
    #: class -> the class that its mirrored videos show, as numbers; None if mirroring changes no class
    mirror_order: list[int] | None = Field(default=None, exclude=True)
    #: the noise that the blank stream sees
    noise: Noise | None = Field(default=None, exclude=True)

    def views(self, height: int, width: int) -> list[Crop]:
        """Return the boxes, and their mirrors, that are cut out of frames of `height` x `width` pixels."""
        high, wide = (
            (height, width) if self.spatial == "fully_conv" else (min(self.crop, height), min(self.crop, width))
        )
        bottom, right = height - high, width - wide
        corners = [(bottom // 2, right // 2)]
        if self.spatial == "ten_crop":  # the corners and the centre
            corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), *corners]
        mirrors = (False, True) if self.flips else (False,)
        return [Crop(top, left, high, wide, mirror) for mirror in mirrors for top, left in corners]

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of `height` x `width` frames after resizing to the protocol's short side: height, width."""
        scale = self.short_side / min(height, width)
        return round(height * scale), round(width * scale)

    def __str__(self) -> str:
        where = {
            "fully_conv": f"whole frames, short side {self.short_side}",
            "ten_crop": f"corners and centre of {self.crop}, short side {self.short_side}",
            "centre_crop": f"centre {self.crop}",
        }[self.spatial]
        exchanged = " with their classes exchanged" if self.mirror_order else ""
        flips = f" and their mirrors{exchanged}" if self.flips else ", no mirrors"
        pool = ", global average" if self.pool == "global" else ""
        over = f" over {self.temporal_window}" if self.temporal_window else ""
        time = f", {self.temporal_pool}{over} in time" if self.temporal_pool else ""
        precision = "" if self.precision == "float32" else f", in {self.precision}"
        soft = ", probabilities averaged" if self.average == "softmax" else ""
        blank = f", noise instead of {self.blank}" if self.blank else ""
        parts = f"{count_of(self.chunks, 'chunk')}{flips}, {where}{pool}{time}{precision}{soft}{blank}"
        return f"{parts}, {self.data} split {self.split} {self.part}"


def upgrade_protocol(protocol: dict[str, Any]) -> dict[str, Any]:
    """Return the protocol of a scores file with the current keys and words.

    Older files say `frames` for chunks, and `scores` for what is averaged, which was always logits.
    """
    upgraded = {"chunks" if key == "frames" else key: value for key, value in protocol.items()}
    if upgraded.pop("scores", None) == "before_softmax":
        upgraded.setdefault("average", "logits")
    if isinstance(words := upgraded.get("words"), str):
        words = re.sub(r"^(\d+) frames\b", r"\1 chunks", words)
        upgraded["words"] = words.replace(", one mean over places", ", global average")
    if isinstance(parts := upgraded.get("parts"), list):
        upgraded["parts"] = [upgrade_protocol(part) if isinstance(part, dict) else part for part in parts]
    if isinstance(idt := upgraded.get("idt"), dict):
        upgraded["idt"] = upgrade_protocol(idt)
    return upgraded
