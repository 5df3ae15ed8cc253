"""The options of report."""

from stmn.options.base import DataOptions, option


class ReportOptions(DataOptions):
    """Write one HTML page about what was run and how well it did."""

    split: str | None = option(  # type: ignore[assignment]
        None, "train/test split of the data set [default: that of the evaluations, or 1]", "Data"
    )
    evaluations: list[str] | None = option(
        None,
        "evaluations to report [default: the newest of each model and protocol on this data set and split, and on "
        "all splits]",
        "Data",
        inputs=("scores", "splits"),
    )
    table: str | None = option(None, "table of methods to show", "Data", inputs=("table",))
    samples: int = option(8, "videos to show", "Data", ge=0, le=200)
    inside: int = option(
        48,
        "videos to measure the gates of the last gated network on; 0: don't",
        "Data",
        ge=0,
        le=10_000,
        added_later=True,
    )
    title: str | None = option(None, "title of the page [default: the data set and split]", "Run")
