"""The options of fuse: two streams tied by gates (sections 3.2, 3.3, 4.1)."""

from typing import Any, Literal, Self

from pydantic import ValidationInfo, field_validator, model_validator

from stmn.options.base import option
from stmn.options.training import TrainingOptions

#: names of the fusion without gates
_UNTIED = ("none", "stmn:none")


class FuseOptions(TrainingOptions):
    """Tie two trained streams by gates and temporal filters, and train them end to end."""

    appearance: str | None = option(
        None, "trained appearance stream [default: the newest of the data set and split]", "Network", inputs=("model",)
    )
    motion: str | None = option(
        None, "trained motion stream [default: the newest of the data set and split]", "Network", inputs=("model",)
    )
    allow_seen: bool = option(
        False, "also fuse streams that were trained on test videos of the split", "Network", execution=True
    )
    fusion: str = option(
        "multiply",
        "how a gate combines the streams: a plugin; none trains them side by side, without gates",
        "Network",
        plugin="fusion",
    )
    fusion_options: dict[str, Any] = option(
        {},
        "options of the fusion; 'stmn plugins show NAME' lists them",
        "Network",
        options_of="fusion",
        added_later=True,
    )
    site: Literal["residual", "direct"] = option(
        "residual", "gate only the residual branch, or also the skip path (direct)", "Network"
    )
    direction: Literal["motion_to_appearance", "appearance_to_motion", "both"] = option(
        "motion_to_appearance", "which stream gates which", "Network"
    )
    gated_units: Literal["second_unit", "every_unit"] = option(
        "second_unit", "which residual units of conv2 to conv5 to gate", "Network"
    )
    operand: Literal["pre_relu", "post_relu"] = option(
        "pre_relu", "gate the receiving stream before or after its ReLU", "Network"
    )
    injector: str = option("residual", "where to insert temporal filters: a plugin", "Network", plugin="injector")
    motion_injector: str | None = option(
        None, "injector for the motion stream [default: as --injector]", "Network", plugin="injector"
    )
    injector_options: dict[str, Any] = option(
        {}, "options of the injector", "Network", options_of="injector", added_later=True
    )
    motion_injector_options: dict[str, Any] = option(
        {}, "options of the motion stream's injector, if it is another one", "Network", options_of="motion_injector",
        added_later=True,
    )  # fmt: skip
    temporal_init: Literal["centre", "average"] = option("centre", "initial weights of a temporal filter", "Network")
    temporal_length: int = option(3, "length of a temporal filter, chunks; odd", "Network", ge=1, le=99)
    temporal_pool: Literal["max", "average", "none"] = option(
        "max", "pooling over time before the classifier (eq. 10: max); none classifies each chunk", "Network"
    )
    temporal_window: int | None = option(
        None,
        "chunks to pool at a time, at stride 1; predictions are averaged [default: all]",
        "Network",
        ge=1,
        le=10_000,
    )
    prediction: Literal["per_stream", "averaged", "concatenated"] = option(
        "per_stream",
        "one loss per stream, or a single loss: on averaged logits, or on a linear layer over both (concatenated)",
        "Network",
    )
    dropout: float | None = option(
        None, "dropout before the motion classifier [default: the stream's own]", "Network", ge=0, lt=1
    )
    chunks: int = option(5, "T: chunks per video in training", "Data", ge=1, le=10_000)
    epochs: int | None = option(
        None, "passes over the training list [default: 40; 25 with --schedule authors]", "Optimisation", ge=1
    )
    micro_batch: int = option(
        4,
        "videos in memory at a time; batch normalisation sees them together, or in groups of --bn-group",
        "Optimisation",
        ge=1,
    )
    lr: float = option(1e-3, "learning rate", "Optimisation", gt=0)
    schedule: Literal["steps", "authors", "plateau", "cosine"] = option(
        "steps",
        "when to divide lr by 10; steps: after 20 epochs and after 10 more (the paper); authors: after 10, 15 and 20 "
        "of 25 epochs (their code); plateau: when validation stops improving; cosine follows a cosine to 0 instead",
        "Optimisation",
    )
    blank: Literal["appearance", "motion"] | None = option(
        None,
        "a control: this stream sees noise instead of its pictures, in training and in testing",
        "Data",
        added_later=True,
    )
    loss_weights: list[float] | None = option(
        None,
        "weights of the losses of appearance and motion, such as 0.5,1 [default: 1,1]",
        "Optimisation",
        min_length=2,
        max_length=2,
        added_later=True,
    )
    freeze: list[Literal["appearance", "motion", "gates", "temporal"]] | None = option(
        None,
        "parts that are not trained: appearance, motion (each with its temporal filters and batch statistics, and "
        "without dropout), gates, temporal",
        "Optimisation",
        added_later=True,
    )
    lr_appearance: float = option(
        1.0, "multiplies lr of the trained appearance stream; not of its temporal filters", "Optimisation", gt=0,
        added_later=True,
    )  # fmt: skip
    lr_motion: float = option(
        1.0,
        "multiplies lr of the trained motion stream; not of its temporal filters",
        "Optimisation",
        gt=0,
        added_later=True,
    )

    @property
    def tied(self) -> bool:
        """True if there are gates; False for an untied pair."""
        return self.fusion not in _UNTIED

    @model_validator(mode="after")
    def _check_gates(self) -> Self:
        """Refuse options of gates if there are none."""
        for name in ("site", "direction", "gated_units", "operand"):
            if not self.tied and (value := getattr(self, name)) != type(self).model_fields[name].default:
                raise ValueError(f"{name} = {value} describes gates, and fusion = none has none: leave {name} out")
        return self

    @model_validator(mode="after")
    def _options_have_a_plugin(self) -> Self:
        """Refuse options of an injector that is not named."""
        if self.motion_injector_options and self.motion_injector is None:
            raise ValueError(
                "motion_injector_options: motion_injector is not set; injector_options are those of both streams"
            )
        return self

    @field_validator("freeze")
    @classmethod
    def _in_order(cls, freeze: list[str] | None) -> list[str] | None:
        """Sort the parts and drop repeats, so that the same parts make the same run."""
        return sorted(set(freeze)) if freeze else freeze

    @field_validator("lr_appearance", "lr_motion", mode="before")
    @classmethod
    def _is_a_rate(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a rate of 0, which would not stop batch statistics and dropout: such a stream must be frozen."""
        if value == 0:
            name = str(info.field_name).removeprefix("lr_")
            raise ValueError(f"lr_{name} = 0: to leave the {name} stream as it is, use freeze = {name}")
        return value

    @model_validator(mode="after")
    def _losses_are_weighted(self) -> Self:
        """Refuse loss weights unless there are two losses, and at least one weight is above 0."""
        if self.loss_weights is None:
            return self
        if self.prediction != "per_stream":
            raise ValueError(f"loss_weights are for two losses, and prediction = {self.prediction} has one")
        if min(self.loss_weights) < 0 or max(self.loss_weights) == 0:
            raise ValueError(f"loss_weights = {self.loss_weights}: must be 0 or more, and not all 0")
        return self

    @model_validator(mode="after")
    def _frozen_parts_are_there(self) -> Self:
        """Refuse frozen parts that the network lacks, and rates for frozen streams."""
        frozen = self.freeze or []
        if "temporal" in frozen and (self.injector, self.motion_injector or "none") == ("none", "none"):
            raise ValueError("freeze = temporal: injector = none has no temporal filters: leave it out")
        if "gates" in frozen and not self.tied:
            raise ValueError("freeze = gates: fusion = none has no gates: leave it out")
        if "motion" in frozen and self.dropout is not None:
            raise ValueError("dropout and freeze = motion contradict each other: a frozen stream has no dropout")
        for name in ("appearance", "motion"):
            if name in frozen and getattr(self, f"lr_{name}") != 1:
                raise ValueError(f"lr_{name} and freeze = {name} contradict each other: a frozen stream learns nothing")
        return self

    @model_validator(mode="after")
    def _temporal_fits(self) -> Self:
        """Refuse an even filter length, and a window without pooling."""
        if self.temporal_length % 2 == 0:
            raise ValueError(f"temporal_length = {self.temporal_length}: the length of a temporal filter must be odd")
        if self.temporal_pool == "none" and self.temporal_window is not None:
            raise ValueError(f"temporal_window = {self.temporal_window} needs pooling over time: temporal_pool is none")
        return self
