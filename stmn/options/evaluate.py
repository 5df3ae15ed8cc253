"""The options of evaluate (section 4.2)."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from stmn.options.base import DataOptions, option


class EvaluateOptions(DataOptions):
    """Test a model on the videos of a split."""

    renamed: ClassVar[dict[str, str]] = {"frames": "chunks", "seen": "allow_seen"}

    model: str | None = option(
        None, "model to test: a run or a file [default: the newest]", "Data", argument=True, inputs=("model",)
    )
    split: str = option("1", "train/test split of the data set, or all: one model per split, and their mean", "Data")
    part: Literal["test", "validation", "train"] = option(
        "test", "which videos of the split to test; validation: those that training held out", "Data"
    )
    allow_seen: bool = option(False, "also test on videos that the model was trained on", "Data")
    late_fusion: list[str] | None = option(
        None,
        "instead of one model, average the logits of these models or evaluations",
        "Testing",
        inputs=("scores", "model"),
    )
    weights: list[float] | None = option(
        None, "weights for --late-fusion, in the same order [default: equal]", "Testing"
    )
    chunks: int = option(25, "chunks per video, evenly spaced", "Testing", ge=1)
    flips: bool = option(True, "also test mirrored videos, if the data set allows it", "Testing")
    fully_conv: bool = option(True, "test whole frames, fully convolutionally, not only the centre crop", "Testing")
    ten_crop: bool = option(False, "test ten crops: the corners and the centre, each also mirrored", "Testing")
    centre_crop: bool = option(False, "test only the centre crop; same as --no-fully-conv", "Testing")
    pool: Literal["window", "global"] = option(
        "window",
        "average the last feature map over windows of the training size, or over all of it (global)",
        "Testing",
    )
    temporal_pool: Literal["max", "average", "none"] | None = option(
        None, "pooling over time [default: as in training]", "Testing"
    )
    temporal_window: int | None = option(
        None, "chunks to pool at a time, with --temporal-pool; 5 in the authors' code [default: all]", "Testing", ge=1
    )
    precision: Literal["float32", "bfloat16", "float16"] = option(
        "float32", "precision of convolutions; the classifier and all averages are float32 in each", "Testing"
    )

    @model_validator(mode="after")
    def _one_protocol(self) -> Self:
        """Options that contradict each other are a mistake."""
        if self.ten_crop and self.centre_crop:
            raise ValueError("ten_crop and centre_crop are two protocols: choose one")
        if self.temporal_window and self.temporal_pool in (None, "none"):
            raise ValueError("temporal_window needs temporal_pool = max or average")
        if self.late_fusion and self.model:
            raise ValueError("choose a model or late_fusion, not both")
        if self.weights and not self.late_fusion:
            raise ValueError("weights belong to late_fusion, which is missing")
        return self
