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
    split: str = option(
        "1", "split into training and test videos; all tests one model per split and reports their mean", "Data"
    )
    part: Literal["test", "validation", "train"] = option(
        "test", "which videos of the split; validation: those that training held out", "Data"
    )
    allow_seen: bool = option(False, "test also on videos that the model was trained on", "Data")
    late_fusion: list[str] | None = option(
        None, "average the logits of these models or evaluations instead", "Testing", inputs=("scores", "model")
    )
    weights: list[float] | None = option(None, "weights of --late-fusion, in its order [default: equal]", "Testing")
    chunks: int = option(25, "chunks per video, spread evenly", "Testing", ge=1)
    flips: bool = option(True, "test mirrored videos also, if the data set allows it", "Testing")
    fully_conv: bool = option(True, "test whole frames, not the centre crop", "Testing")
    ten_crop: bool = option(False, "test corners and centre of the training crop's size, and their mirrors", "Testing")
    centre_crop: bool = option(False, "test the centre crop alone; same as --no-fully-conv", "Testing")
    pool: Literal["window", "global"] = option(
        "window", "average the last map over windows as large as in training, or over all of it (global)", "Testing"
    )
    temporal_pool: Literal["max", "average", "none"] | None = option(
        None, "pooling over time [default: as the model was trained]", "Testing"
    )
    temporal_window: int | None = option(
        None, "chunks pooled at a time, with --temporal-pool; the authors' code: 5 [default: all]", "Testing", ge=1
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
