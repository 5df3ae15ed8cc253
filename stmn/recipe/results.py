"""What Python callers get: where the files of a stage are, and what it measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stmn.errors import DataError
from stmn.recipe.tuning.study import Trial, rank
from stmn.workspace import Run


@dataclass(frozen=True)
class StageResult:
    """A finished stage. As an option of a later one it stands for what it made.

    Attributes:
        name: Of its run.
        path: Its folder.
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
        """Frames of all videos."""
        return int(self.values["frames"])


@dataclass(frozen=True)
class TrainedModel(StageResult):
    """A trained stream, or two that are tied; `stmn.load` takes it, to predict."""

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
            DataError: It is the mean of several splits, which have a file each.
        """
        if "scores" not in self.outputs:
            raise DataError(f"{self.path}: is the mean of several splits; each split's own evaluation has scores")
        return self.outputs["scores"]

    @property
    def accuracy(self) -> float:
        """The fraction of videos that are classified correctly."""
        return float(self.values["accuracy"])

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        low, high = self.values["interval"]
        return float(low), float(high)

    @property
    def videos(self) -> int:
        """How many videos were tested; one that several splits test counts for each of them."""
        if "videos" in self.values:
            return int(self.values["videos"])
        return sum(int(split["videos"]) for split in self.values["splits"].values())


@dataclass(frozen=True)
class RecipeResult:
    """A recipe that has run.

    Attributes:
        stages: The result of each stage by its id; in a sweep by those of its instances, as `test[seed=0]`.
    """

    stages: dict[str, StageResult]

    def __getitem__(self, stage_id: str) -> StageResult:
        return self.stages[stage_id]

    @property
    def models(self) -> dict[str, TrainedModel]:
        """The models that were trained."""
        return {name: found for name, found in self.stages.items() if isinstance(found, TrainedModel)}

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """The tests."""
        return {name: found for name, found in self.stages.items() if isinstance(found, Evaluation)}


@dataclass(frozen=True)
class TuningResult:
    """A study: trials of a training with other values of its options.

    Attributes:
        name: Its name.
        path: Its folder; `trials.csv` there has a row for each trial.
        trials: All of them, in order, those that failed or were stopped early included.
        held_out: The number of validation videos, on which accuracies were measured. No test video was looked at.
        command: The command line that trains with the best values; empty if no trial is done.
        model: What the best trial trained; None if no trial is done.
    """

    name: str
    path: Path
    trials: list[Trial]
    held_out: int
    command: str
    model: TrainedModel | None

    @property
    def ranking(self) -> list[Trial]:
        """The trials that are done, best first. The accuracy of the first is too good to be reported as a result."""
        return rank(self.trials)

    @property
    def best(self) -> Trial | None:
        """The first of them; None if no trial is done."""
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
