"""The files of a study in `tune/NAME/`: the question with its trials, and the trials as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from stmn.errors import DataError, UsageError, describe_mistake
from stmn.recipe.tuning.space import Value, show_value
from stmn.runtime.csv_cells import safe_cell
from stmn.runtime.files import atomic_write
from stmn.runtime.json_files import read_record, write_record

#: the folder of a workspace that holds studies
FOLDER = "tune"
_RECORD, _TABLE = "study.json", "trials.csv"


class Trial(BaseModel):
    """One training with values of a space.

    Attributes:
        number: Its number, from 1.
        values: Key of an option -> its value.
        state: `done`, `failed`, `stopped` (early, because it did badly), or `running` (or killed).
        run: The name of its run; empty if it could not begin.
        accuracy: The accuracy, 0..1, of the weights that it kept, on the validation videos; None unless it is done.
        seconds: How long its training took since it was last started or resumed.
        reason: Why it failed or was stopped.
        course: Step -> accuracy on the validation videos at that step, of trials that may be stopped early.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    values: dict[str, Value]
    state: Literal["running", "done", "failed", "stopped"] = "running"
    run: str = ""
    accuracy: float | None = None
    seconds: float = 0.0
    reason: str = ""
    course: dict[int, float] = {}


def rank(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that are done, best first; ties in the order of their numbers."""
    done = [trial for trial in trials if trial.accuracy is not None]
    return sorted(done, key=lambda trial: (-(trial.accuracy or 0.0), trial.number))


class _Record(BaseModel):
    """The types of the file."""

    model_config = ConfigDict(extra="forbid")

    asked: dict[str, Any]
    trials: list[Trial]


@dataclass
class Study:
    """The trials of one question.

    Attributes:
        path: Its folder.
        asked: What decides its trials, as JSON: verb, options, space, inputs, data.
        trials: In the order of their numbers.
    """

    path: Path
    asked: Mapping[str, Any]
    trials: list[Trial] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    @property
    def table(self) -> Path:
        """The CSV file with all trials."""
        return self.path / _TABLE

    @property
    def ranking(self) -> list[Trial]:
        """The trials that are done, best first; ties in the order of their numbers."""
        return rank(self.trials)

    @property
    def best(self) -> Trial | None:
        """The trial with the highest accuracy; None if none is done."""
        return next(iter(self.ranking), None)

    @property
    def running(self) -> Trial | None:
        """The trial that was interrupted or killed, if there is one."""
        return next((trial for trial in self.trials if trial.state == "running"), None)

    def count(self, state: str) -> int:
        """How many trials have a state."""
        return sum(trial.state == state for trial in self.trials)

    def put(self, trial: Trial) -> Trial:
        """Add a trial, or replace the one with its number, on disk too."""
        self.trials = sorted([*(t for t in self.trials if t.number != trial.number), trial], key=lambda t: t.number)
        write_record(self.path / _RECORD, {"asked": dict(self.asked), "trials": [t.model_dump() for t in self.trials]})
        with atomic_write(self.table) as temporary:
            temporary.write_text(self._csv(), encoding="utf-8")
        return trial

    def load(self) -> None:
        """Load the trials on disk, if there are any.

        Raises:
            DataError: the file is damaged.
            UsageError: they answer another question.
        """
        path = self.path / _RECORD
        try:
            record = _Record.model_validate(read_record(path))
        except FileNotFoundError:
            return
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DataError(f"{path}: is damaged: {where} {describe_mistake(first)}") from error
        if record.asked != dict(self.asked):
            others = ", ".join(_differing(record.asked, self.asked))
            raise UsageError(
                f"{self.path}: is a study of something else ({others}): choose another name, or delete the folder"
            )
        self.trials = record.trials

    def _csv(self) -> str:
        """The trials, a row each."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        keys = list(self.asked["space"])
        writer.writerow(["trial", "state", "validation_accuracy", *keys, "run", "seconds", "reason"])
        for trial in self.trials:
            values = (show_value(v) if isinstance(v := trial.values[key], bool) else v for key in keys)
            accuracy = "" if trial.accuracy is None else trial.accuracy
            row = [trial.number, trial.state, accuracy, *values, trial.run, trial.seconds, trial.reason]
            writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in row])
        return out.getvalue()


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys whose values differ; for nested tables, the keys within them."""
    found = []
    for key in one.keys() | other.keys():
        here, there = one.get(key), other.get(key)
        if here != there:
            both = isinstance(here, dict) and isinstance(there, dict)
            found += _differing(here, there) if both and key != "space" else [key]  # type: ignore[arg-type]
    return sorted(found)
