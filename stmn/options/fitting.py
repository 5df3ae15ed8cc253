"""The options of init and train: what the user decides; all else is chosen to fit the clips."""

from pathlib import Path
from typing import Any

from pydantic import Field

from stmn.options.base import StageOptions, option


class FittingOptions(StageOptions):
    """Choose a recipe that fits a folder of clips and this machine. What is not given is chosen."""

    videos: Path = option(
        None, "folder with a folder of videos per class, or a CSV list", "Data", argument=True, flagged=False
    )
    name: str | None = Field(
        None,
        description="name of the prepared set, the recipe and the list [default: the folder's name]",
        json_schema_extra={"panel": "Data", "makes": True},
    )
    group_pattern: str = option(
        "auto",
        "regular expression for the group in CLASS/VIDEO.mp4: its first brackets; auto: what names have in common",
        "Data",
    )
    folds: int | None = option(
        None,
        "divide the clips into this many parts, and test each by networks trained on the others; 1: one split",
        "Data",
        ge=1,
    )
    short_side: int | None = option(None, "short side of prepared frames, pixels", "Data", ge=32, le=2048)
    size: int | None = option(None, "side of the training crop, pixels", "Data", ge=32, le=1024)
    fps: float | None = option(None, "frames per second of the prepared set", "Data", gt=0, le=1000)
    bound: float | None = option(None, "clip flow at this many pixels per frame", "Data", gt=0, le=1000)
    flow: str = option("tvl1", "optical flow estimator: a plugin", "Data", plugin="flow")
    arch: str | None = option(None, "backbone of both streams", "Network", plugin="backbone")
    width: float | None = option(None, "multiplies the channels of the backbone", "Network", gt=0, le=4)
    weights: str | None = option(
        None,
        "weights to start from: imagenet (see stmn weights), none, those of a package (formula)",
        "Network",
    )
    chunks: int | None = option(None, "chunks of a clip that the motion stream sees at once", "Network", ge=1, le=1000)
    batch: int | None = option(None, "clips per training step", "Optimisation", ge=1)
    steps: int | None = option(
        None, "training steps of the motion stream; the others have half as many", "Optimisation", ge=1
    )
    seeds: int = option(
        1, "train every network this many times, from different random numbers", "Optimisation", ge=1, le=100
    )
    minutes: float = option(
        60.0, "choose folds and steps so that all of it takes at most this long, if it can", "Run", gt=0
    )

    def chosen(self) -> dict[str, Any]:
        """The options that the user gave."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}
