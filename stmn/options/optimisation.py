"""The options of both trainings for learning: optimizer, learning rates, loss, and which weights are kept."""

import re
from itertools import pairwise
from typing import Literal, Self

from pydantic import field_validator, model_validator

from stmn.options.base import DataOptions, option

_EVERY = re.compile(r"every ([1-9][0-9]*)")


class OptimisationOptions(DataOptions):
    """How weights are learned."""

    optimizer: Literal["sgd", "adamw"] = option(
        "sgd", "sgd with momentum, or adamw, which wants a lower lr", "Optimisation"
    )
    momentum: float = option(0.9, "momentum of SGD, or beta1 of AdamW", "Optimisation", ge=0, lt=1)
    weight_decay: float = option(5e-4, "weight decay, except for biases and batch normalisation", "Optimisation", ge=0)
    milestones: list[float] | None = option(
        None, "epochs after which --schedule steps divides lr by 10 [default: see --schedule]", "Optimisation"
    )
    patience: int = option(5, "validations without improvement before plateau lowers lr", "Optimisation", ge=1)
    warmup: int | None = option(
        None, "steps in which lr rises to its value [default: 1/20 of the training for cosine, else 0]",
        "Optimisation", ge=0,
    )  # fmt: skip
    warmup_epochs: float | None = option(None, "the same in epochs, in place of --warmup", "Optimisation", ge=0)
    lr_new: float = option(
        1.0,
        "multiplies lr of layers without starting weights: classifier, temporal filters, gates",
        "Optimisation",
        gt=0,
    )
    lr_bias: float = option(
        1.0, "multiplies lr of the biases of convolutions and classifiers; 2 in the authors' code", "Optimisation", gt=0
    )
    lr_gain: float = option(
        1.0, "multiplies lr of the gains of batch normalisation; 2 in the authors' code", "Optimisation", gt=0
    )
    clip: float | None = option(
        None, "largest gradient norm; larger gradients are scaled down [default: no limit]", "Optimisation", gt=0
    )
    label_smoothing: float = option(
        0.0, "share of each label that is spread over all classes in the loss", "Optimisation", ge=0, lt=1
    )
    mixup: float = option(
        0.0,
        "mix each video with another one, and their labels, by shares of Beta(a, a), such as 0.2; 0: none",
        "Optimisation",
        ge=0,
        le=100,
        added_later=True,
    )
    class_weights: bool = option(
        False, "weight the loss of each video by how rare its class is in the training list", "Optimisation"
    )
    ema: float | None = option(
        None,
        "decay of a running average of the weights, such as 0.999, to validate and save [default: none]",
        "Optimisation",
        gt=0,
        lt=1,
    )
    keep: str = option(
        "last",
        "which weights to save as the model: last, or best in validation; 'every N' also saves a model every N steps",
        "Optimisation",
    )

    @field_validator("keep")
    @classmethod
    def _keep_is_known(cls, keep: str) -> str:
        """Refuse anything but `last`, `best` or `every N`."""
        if keep not in ("last", "best") and not _EVERY.fullmatch(keep):
            raise ValueError(f"keep = {keep!r}: use last, best, or every N with a number of steps, such as 'every 500'")
        return keep

    @property
    def keep_every(self) -> int:
        """Steps between the extra models that are saved; 0 for none."""
        found = _EVERY.fullmatch(self.keep)
        return int(found[1]) if found else 0

    @model_validator(mode="after")
    def _validation_is_there(self) -> Self:
        """Refuse options that depend on validation if no videos are held out."""
        if getattr(self, "validation", 1) > 0:
            return self
        if getattr(self, "schedule", "") == "plateau":
            raise ValueError(
                "schedule = plateau lowers lr when validation stops improving, and validation = 0 holds no videos out: "
                "use schedule = steps or cosine, or a larger validation"
            )
        if self.keep == "best":
            raise ValueError(
                "keep = best is best in validation, and validation = 0 holds no videos out: set validation"
            )
        return self

    @model_validator(mode="after")
    def _schedule_takes_them(self) -> Self:
        """Refuse options of a schedule that is not used."""
        schedule = getattr(self, "schedule", "plateau")
        if self.milestones is not None and schedule != "steps":
            raise ValueError(f"milestones belong to schedule = steps, and schedule is {schedule}")
        rising = [0.0, *(self.milestones or [])]
        if self.milestones is not None and (not self.milestones or any(b <= a for a, b in pairwise(rising))):
            raise ValueError(f"milestones = {self.milestones}: give rising numbers of epochs above 0, such as 20,40")
        if self.patience != type(self).model_fields["patience"].default and schedule != "plateau":
            raise ValueError(f"patience belongs to schedule = plateau, and schedule is {schedule}")
        if self.warmup is not None and self.warmup_epochs is not None:
            raise ValueError("warmup (steps) and warmup_epochs say the same thing: set one")
        return self

    @model_validator(mode="after")
    def _classes_are_balanced_once(self) -> Self:
        """Refuse to both show and weight rare classes more: they would count twice."""
        if self.class_weights and getattr(self, "balance", False):
            raise ValueError("balance and class_weights both make up for rare classes, twice over: set one")
        return self
