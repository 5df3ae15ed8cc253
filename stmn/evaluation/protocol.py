"""How a number was measured."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from stmn.sampling.augment import Crop

Spatial = Literal["fully_conv", "ten_crop", "centre_crop"]
Pool = Literal["window", "global"]


class Protocol(BaseModel):
    """`chunks` chunks spread over the video, with mirrors or without; whole frames, five crops or the centre crop.

    Section 4.2: whole frames. `pool`: the last feature map is averaged over windows of its size in training and each
    place is classified (the authors' code), or over all of it at once. `temporal_pool` and `temporal_window`: as the
    network was trained, unless they are given. `scores` says what is averaged over places, chunks, mirrors and
    streams: the classifiers' outputs before the soft-max, as the authors' code. `part` of the split: `validation` is
    what training held out of the training list.
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
    scores: Literal["before_softmax"] = "before_softmax"
    data: str = ""
    split: str = ""
    part: str = "test"

    def views(self, height: int, width: int) -> list[Crop]:
        """The boxes of an (height, width) frame that are scored, and their mirrors."""
        high, wide = (
            (height, width) if self.spatial == "fully_conv" else (min(self.crop, height), min(self.crop, width))
        )
        bottom, right = height - high, width - wide
        places = [(bottom // 2, right // 2)]
        if self.spatial == "ten_crop":  # the corners and the centre
            places = [(0, 0), (0, right), (bottom, 0), (bottom, right), *places]
        mirrors = (False, True) if self.flips else (False,)
        return [Crop(top, left, high, wide, mirror) for mirror in mirrors for top, left in places]

    def __str__(self) -> str:
        where = {
            "fully_conv": f"whole frames, short side {self.short_side}",
            "ten_crop": f"corners and centre of {self.crop}, short side {self.short_side}",
            "centre_crop": f"centre {self.crop}",
        }[self.spatial]
        flips = " and their mirrors" if self.flips else ", no mirrors"
        pool = ", one mean over places" if self.pool == "global" else ""
        over = f" over {self.temporal_window}" if self.temporal_window else ""
        time = f", {self.temporal_pool}{over} in time" if self.temporal_pool else ""
        return f"{self.chunks} chunks{flips}, {where}{pool}{time}, {self.data} split {self.split} {self.part}"


def upgrade_protocol(protocol: dict[str, Any]) -> dict[str, Any]:
    """The protocol of a scores file in today's words; files used to call the chunks `frames`."""
    upgraded = {"chunks" if key == "frames" else key: value for key, value in protocol.items()}
    if isinstance(words := upgraded.get("words"), str):
        upgraded["words"] = re.sub(r"^(\d+) frames\b", r"\1 chunks", words)
    if isinstance(parts := upgraded.get("parts"), list):
        upgraded["parts"] = [upgrade_protocol(part) if isinstance(part, dict) else part for part in parts]
    return upgraded
