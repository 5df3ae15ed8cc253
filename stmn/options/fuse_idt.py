"""The options of fuse-idt (section 5.4)."""

from stmn.options.base import DataOptions, option


class FuseIdtOptions(DataOptions):
    """Average network scores with an SVM's on hand-crafted features."""

    split: str | None = option(  # type: ignore[assignment]
        None, "train/test split of the data set, which must be that of the scores [default: theirs]", "Data"
    )
    scores: str | None = option(
        None, "network scores: an evaluation or a scores file [default: the newest]", "Data", inputs=("scores",)
    )
    idt_scores: str | None = option(
        None,
        "scores file of the SVM [default: trains one on HOG, HOF and MBH histograms of the data set]",
        "Data",
        inputs=("scores",),
    )
    weights: list[float] = option([1.0, 1.0], "weights of network and SVM", "Testing", min_length=2, max_length=2)
    normalise_network: bool = option(True, "L2-normalise the network's scores per video, as the SVM's are", "Testing")
