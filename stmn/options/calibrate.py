"""The options of calibrate."""

from stmn.options.base import StageOptions, option


class CalibrateOptions(StageOptions):
    """Calibrate a model: fit a temperature to its confidence. The videos that it is fitted on are new to the model."""

    model: str | None = option(
        None, "model to calibrate: a run or a file [default: the newest]", "Data", argument=True, inputs=("model",)
    )
    scores: list[str] | None = option(
        None,
        "evaluations of held-out videos, or of all folds, by this model or ones trained alike [default: test the model "
        "on its own validation list]",
        "Data",
        inputs=("scores",),
    )
    data: str | None = option(
        None, "prepared data set with the validation list [default: the only one]", "Data", data=True
    )
    kept: float = option(
        0.8, "fraction of the correct predictions that are not called unknown by --unknown auto", "Testing", gt=0, le=1
    )
