"""The options of evaluate (section 4.2)."""

from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from stmn.options.base import LOADER_THREADS, DataOptions, option


class EvaluateOptions(DataOptions):
    """Test a model on the videos of a split."""

    renamed: ClassVar[dict[str, str]] = {"frames": "chunks", "seen": "allow_seen", "weights": "stream_weights"}

    model: str | None = option(
        None, "model to test: a run or a file [default: the newest]", "Data", argument=True, inputs=("model",)
    )
    split: str | None = option(  # type: ignore[assignment]
        None,
        "train/test split of the data set, or all: one model per split, and their mean [default: the model's, or that "
        "of the scores]",
        "Data",
    )
    part: Literal["test", "validation", "train"] | None = option(
        None,
        "which videos of the split to test; validation: those that training held out [default: test, or what the "
        "scores are of]",
        "Data",
    )
    allow_seen: bool = option(False, "also test on videos that the model was trained on", "Data")
    late_fusion: list[str] | None = option(
        None,
        "instead of one model, average the scores of these models or evaluations",
        "Testing",
        inputs=("scores", "model"),
    )
    join: list[str] | None = option(
        None,
        "instead of testing, join the scores of these evaluations of disjoint folds, with each video once",
        "Testing",
        inputs=("scores",),
    )
    stream_weights: list[float] | Literal["validation", "folds"] | None = option(
        None,
        "weights of the network's streams, or of what --late-fusion names, in the same order; validation chooses them "
        "on the videos that training held out; folds, with --join or --split all, on those of the other folds "
        "[default: equal]",
        "Testing",
    )
    average: Literal["logits", "softmax"] = option(
        "logits",
        "what is averaged over windows, chunks, mirrors and streams: logits, or probabilities",
        "Testing",
    )
    blank: Literal["appearance", "motion"] | None = option(
        None,
        "a control: this stream sees noise with its pictures' mean and deviation [default: as in training]",
        "Testing",
        added_later=True,
    )
    chunks: int = option(25, "chunks per video, evenly spaced", "Testing", ge=1, le=10_000)
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
        None,
        "chunks to pool at a time, with --temporal-pool; 5 in the authors' code [default: all]",
        "Testing",
        ge=1,
        le=10_000,
    )
    precision: Literal["float32", "bfloat16", "float16"] = option(
        "float32", "precision of convolutions; the classifier and all averages are float32 in each", "Testing"
    )
    loader_threads: int | None = option(None, LOADER_THREADS, "Run", ge=1, le=1024, execution=True)

    @field_validator("stream_weights", mode="before")
    @classmethod
    def _read_word(cls, value: Any) -> Any:
        """Unwrap a list that holds only a keyword, as a flag gives it."""
        return value[0] if isinstance(value, list) and value in (["validation"], ["folds"]) else value

    @model_validator(mode="after")
    def _one_protocol(self) -> Self:
        """Refuse options that contradict each other."""
        if self.ten_crop and self.centre_crop:
            raise ValueError("ten_crop and centre_crop are two protocols: choose one")
        if self.temporal_window and self.temporal_pool in (None, "none"):
            raise ValueError("temporal_window needs temporal_pool = max or average")
        tested = {"a model": self.model, "late_fusion": self.late_fusion, "join": self.join}
        if len(given := [words for words, value in tested.items() if value]) > 1:
            raise ValueError(f"choose {' or '.join(given)}, not {'both' if len(given) == 2 else 'all'}")
        if self.join and len(self.join) < 2:
            raise ValueError("join needs the evaluations of at least two folds")
        if self.join and self.stream_weights not in (None, "folds"):
            raise ValueError("join takes scores as they are: give stream_weights to the evaluations that it joins")
        if self.join and self.blank:
            raise ValueError("join takes scores as they are: give blank to the evaluations that it joins")
        if self.late_fusion and len(self.late_fusion) < 2:
            raise ValueError("late_fusion needs at least two models or evaluations")
        if self.stream_weights == "validation" and self.part not in (None, "test"):
            raise ValueError("stream_weights = validation chooses on the validation part: test on the test part")
        return self
