"""The options of table."""

from typing import Self

from pydantic import model_validator

from stmn.options.base import SetOptions, option


class TableOptions(SetOptions):
    """Write one table of methods that were tested several times, as Markdown, CSV and JSON."""

    evaluations: list[str] | None = option(
        None,
        "evaluations, or scores files: all seeds and splits of all methods",
        "Data",
        argument=True,
        inputs=("scores",),
    )
    rows: list[str] | None = option(
        None,
        "the row of each evaluation, in the same order; equal names make one row [default: the stage's id "
        "without seed and split, or the run]",
        "Data",
    )
    seeds: list[int] | None = option(
        None, "the seed of each evaluation, in their order [default: 0, 1, ... within each row]", "Data"
    )
    against: str | None = option(None, "row that the others are compared with", "Data")

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        """Refuse rows or seeds unless there is one for each evaluation."""
        count = len(self.evaluations or [])
        for name in ("rows", "seeds"):
            given = getattr(self, name)
            if given is not None and len(given) != count:
                raise ValueError(f"{name} has {len(given)} for {count} evaluations: give one for each")
        return self
