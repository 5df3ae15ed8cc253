"""The options of fuse: two streams tied by gates (sections 3.2, 3.3, 4.1)."""

from typing import Literal, Self

from pydantic import model_validator

from stmn.options.base import option
from stmn.options.training import TrainingOptions


class FuseOptions(TrainingOptions):
    """Tie two trained streams by gates and temporal filters, and train them end to end."""

    appearance: str | None = option(
        None, "trained appearance stream [default: the newest]", "Network", inputs=("model",)
    )
    motion: str | None = option(None, "trained motion stream [default: the newest]", "Network", inputs=("model",))
    fusion: str = option("multiply", "what combines the streams at a gate: a plugin", "Network", plugin="fusion")
    site: Literal["residual", "direct"] = option(
        "residual", "gate the residual branch alone, or also the skip path (direct)", "Network"
    )
    direction: Literal["motion_to_appearance", "appearance_to_motion", "both"] = option(
        "motion_to_appearance", "which stream gates which", "Network"
    )
    gated_units: Literal["second_unit", "every_unit"] = option(
        "second_unit", "which residual units of conv2 to conv5 are gated", "Network"
    )
    operand: Literal["pre_relu", "post_relu"] = option(
        "pre_relu", "gate the receiving stream before or after its ReLU", "Network"
    )
    injector: str = option("residual", "where temporal filters go: a plugin", "Network", plugin="injector")
    motion_injector: str | None = option(
        None, "injector of the motion stream [default: that of --injector]", "Network", plugin="injector"
    )
    temporal_init: Literal["centre", "average"] = option("centre", "initial temporal filters", "Network")
    temporal_length: int = option(3, "chunks that a temporal filter spans; odd", "Network", ge=1)
    temporal_pool: Literal["max", "average", "none"] = option(
        "max", "pooling over time before the classifier (eq. 10: max); none classifies every chunk", "Network"
    )
    temporal_window: int | None = option(
        None, "chunks pooled at a time, at stride 1; predictions are averaged [default: all]", "Network", ge=1
    )
    prediction: Literal["per_stream", "averaged", "concatenated"] = option(
        "per_stream",
        "one loss per stream, or one loss on the mean of both logits, or on a linear layer over both",
        "Network",
    )
    dropout: float | None = option(
        None, "dropout before the motion classifier [default: as the stream was trained]", "Network", ge=0, lt=1
    )
    chunks: int = option(5, "T: chunks per video in a training pass", "Data", ge=1)
    epochs: int | None = option(
        None, "passes over the training list [default: 40; 25 with --schedule authors]", "Optimisation", ge=1
    )
    micro_batch: int = option(4, "videos in memory at a time; batch normalisation sees these", "Optimisation", ge=1)
    lr: float = option(1e-3, "learning rate", "Optimisation", gt=0)
    schedule: Literal["steps", "authors", "plateau", "cosine"] = option(
        "steps",
        "steps divides lr by 10 after 20 epochs and after 10 more (the paper); authors after 10, 15 and 20, and ends "
        "after 25 (their code); cosine suits a fixed number of steps",
        "Optimisation",
    )
    patience: int = option(5, "validations without improvement before lowering lr", "Optimisation", ge=1)

    @model_validator(mode="after")
    def _temporal_fits(self) -> Self:
        """Lengths are odd, and a window needs pooling."""
        if self.temporal_length % 2 == 0:
            raise ValueError(f"temporal_length = {self.temporal_length}: the length of a temporal filter must be odd")
        if self.temporal_pool == "none" and self.temporal_window is not None:
            raise ValueError(f"temporal_window = {self.temporal_window} needs pooling over time: temporal_pool is none")
        return self
