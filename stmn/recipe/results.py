"""The results that Python callers get: where the files of a stage are, and what it measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stmn.errors import DataError
from stmn.recipe.tuning.study import Trial, rank
from stmn.workspace import Run


@dataclass(frozen=True)
class StageResult:
    """A finished stage. Given as an option of a later stage, it stands for its output.

    Attributes:
        name: The name of its run.
        path: The folder of its run.
        outputs: The files that it made, by kind: "model", "scores", "metrics", "report", ...
        values: What it measured, as in its record.
        options: The options that it ran with.
        seconds: How long it took.
    """

    name: str
    path: Path
    outputs: dict[str, Path]
    values: dict[str, Any]
    options: dict[str, Any]
    seconds: float

    @classmethod
    def of(cls, run: Run) -> Self:
        """The result of a run."""
        record = run.record
        outputs = {kind: run.path / name for kind, name in record.get("outputs", {}).items()}
        return cls(run.name, run.path, outputs, run.results, record.get("options", {}), record.get("seconds", 0.0))

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class PreparedSet(StageResult):
    """A prepared set of videos."""

    @property
    def videos(self) -> int:
        """How many videos are in it."""
        return int(self.values["ok"])

    @property
    def skipped(self) -> int:
        """How many videos could not be prepared."""
        return int(self.values["skipped"])

    @property
    def frames(self) -> int:
        """How many frames its videos have in all."""
        return int(self.values["frames"])


@dataclass(frozen=True)
class TrainedModel(StageResult):
    """A trained stream or tied network. Give it to `stmn.load` to predict."""

    @property
    def file(self) -> Path:
        """The model file."""
        return self.outputs["model"]


@dataclass(frozen=True)
class Evaluation(StageResult):
    """The test of a model. All numbers are fractions in 0..1."""

    @property
    def scores(self) -> Path:
        """The scores file.

        Raises:
            DataError: It is the mean of several splits, each of which has a file of its own.
        """
        if "scores" not in self.outputs:
            raise DataError(f"{self.path}: is the mean of several splits; each split's own evaluation has scores")
        return self.outputs["scores"]

    @property
    def accuracy(self) -> float:
        """The fraction of videos classified correctly."""
        return float(self.values["accuracy"])

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        low, high = self.values["interval"]
        return float(low), float(high)

    @property
    def videos(self) -> int:
        """How many videos were tested; a video in the test part of several splits counts once for each."""
        if "videos" in self.values:
            return int(self.values["videos"])
        return sum(int(split["videos"]) for split in self.values["splits"].values())


@dataclass(frozen=True)
class RecipeResult:
    """A recipe that has run.

    Attributes:
        stages: Id of a stage -> its result; in a sweep, ids of instances, such as `test[seed=0]`.
    """

    stages: dict[str, StageResult]

    def __getitem__(self, stage_id: str) -> StageResult:
        return self.stages[stage_id]

    @property
    def models(self) -> dict[str, TrainedModel]:
        """Id of a stage -> the model that it trained."""
        return {name: found for name, found in self.stages.items() if isinstance(found, TrainedModel)}

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """Id of a stage -> its test."""
        return {name: found for name, found in self.stages.items() if isinstance(found, Evaluation)}


@dataclass(frozen=True)
class TuningResult:
    """A study: trials of a training with different values of its options.

    Attributes:
        name: Its name.
        path: Its folder; `trials.csv` there has a row for each trial.
        trials: All trials in order, including those that failed or were stopped early.
        held_out: The number of validation videos, on which accuracies were measured. No test video was looked at.
        command: The command line that trains with the best values; empty if no trial is done.
        model: The model of the best trial; None if no trial is done.
    """

    name: str
    path: Path
    trials: list[Trial]
    held_out: int
    command: str
    model: TrainedModel | None

    @property
    def ranking(self) -> list[Trial]:
        """The trials that are done, best first.

        Don't report the accuracy of the first as a result: it was chosen as the highest, so it is too high.
        """
        return rank(self.trials)

    @property
    def best(self) -> Trial | None:
        """The best trial; None if no trial is done."""
        return next(iter(self.ranking), None)


#: verb -> the class of its result; `StageResult` for any other
_KINDS: dict[str, type[StageResult]] = {
    "prepare": PreparedSet,
    "train-stream": TrainedModel,
    "fuse": TrainedModel,
    "calibrate": TrainedModel,
    "evaluate": Evaluation,
}


def result_of(run: Run) -> StageResult:
    """The typed result of a run."""
    return _KINDS.get(run.record.get("verb", ""), StageResult).of(run)
