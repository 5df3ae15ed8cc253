"""The options of fuse-idt (section 5.4)."""

from typing import Literal, Self

from pydantic import model_validator

from stmn.options.base import option
from stmn.options.idt import IdtScoreOptions


class FuseIdtOptions(IdtScoreOptions):
    """Average network scores with those of SVMs on improved dense trajectories."""

    model: str | None = option(
        None, "model whose scores to fuse: a run or a file; it is tested first", "Data", inputs=("model",)
    )
    split: str | None = option(
        None, "train/test split of the data set, which must be that of the scores [default: theirs]", "Data"
    )
    scores: str | None = option(
        None, "network scores: an evaluation or a scores file [default: the newest]", "Data", inputs=("scores",)
    )
    idt_scores: str | None = option(
        None,
        "scores file of the SVMs, to be fused as it is [default: made from the videos]",
        "Data",
        inputs=("scores",),
    )
    features: Literal["idt", "grid"] = option(
        "idt",
        "what the SVMs see: improved dense trajectories, or HOG, HOF and MBH over a fixed grid of the stored frames "
        "and flow, which is quick and needs no OpenCV",
        "Features",
    )
    weights: list[float] = option([1.0, 1.0], "weights of network and SVMs", "Testing", min_length=2, max_length=2)
    normalise_network: bool = option(True, "L2-normalise the network's scores per video", "Testing")
    normalise_idt: bool = option(True, "L2-normalise the SVMs' scores per video", "Testing")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        """Refuse options that contradict each other."""
        if self.model and self.scores:
            raise ValueError("choose a model or scores, not both")
        return self
