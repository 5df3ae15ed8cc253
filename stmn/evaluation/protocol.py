"""How a number was measured."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Protocol(BaseModel):
    """`frames` chunks spread over the video, with mirrors or without, whole frames or the centre crop (section 4.2).

    `scores` says what is averaged over places, chunks, mirrors and streams: the classifiers' outputs before the
    soft-max, as the authors' code.
    """

    model_config = ConfigDict(frozen=True)

    frames: int = 25
    flips: bool = True
    spatial: Literal["fully_conv", "centre_crop"] = "fully_conv"
    short_side: int
    crop: int
    scores: Literal["before_softmax"] = "before_softmax"
    data: str = ""
    split: str = ""
    part: str = "test"

    def __str__(self) -> str:
        where = f"whole frames, short side {self.short_side}" if self.spatial == "fully_conv" else f"centre {self.crop}"
        flips = " and their mirrors" if self.flips else ", no mirrors"
        return f"{self.frames} frames{flips}, {where}, {self.data} split {self.split} {self.part}"
