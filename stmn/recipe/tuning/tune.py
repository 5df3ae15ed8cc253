"""Run a study: draw values, train with them, judge them on the validation videos, and repeat."""

import time

from stmn.errors import Interrupted, StmnError, count_of
from stmn.recipe.execute import execute
from stmn.recipe.tuning.draw import EarlyStop, draw_values
from stmn.recipe.tuning.question import Tuning
from stmn.recipe.tuning.space import count_combinations, show_values
from stmn.recipe.tuning.study import Study, Trial
from stmn.recipe.tuning.watch import Stopped, TrialProgress
from stmn.runtime.locks import FolderInUse, hold_lock
from stmn.runtime.progress import Progress
from stmn.stages.training import accuracy_kept

#: this many failures before any trial is done have one cause
_MOST_FAILED = 3


def run_tuning(
    tuning: Tuning, trials: int, progress: Progress, device: str = "auto", minutes: float | None = None,
    prune: bool = False, wait: bool = False,
) -> None:  # fmt: skip
    """Continue a study until it has a number of trials; each is saved as it ends.

    Args:
        tuning: What is asked.
        trials: How many trials it should have in all, including those that failed.
        progress: Where it reports.
        device: `auto`, `cpu` or `cuda`.
        minutes: Begin no trial after this many minutes.
        prune: Stop trials early that do worse than most.
        wait: Wait for another process that runs this study, or one of its trainings.

    Raises:
        FolderInUse: Another process is at work on it.
        Interrupted: After SIGINT or SIGTERM; the same call resumes the trial.
        StmnError: The first three trials failed, or all of them if there are fewer.
    """
    study, began, quiet = tuning.study, time.monotonic(), False
    with hold_lock(study.path, progress.say, wait, "this study"):
        study.load()
        if study.trials:
            progress.say(f"{study.path}: has {count_of(len(study.trials), 'trial')} already")
        while (trial := study.running) or len(study.trials) < trials:
            if trial is None:
                if minutes is not None and time.monotonic() - began > 60 * minutes:
                    progress.say(f"{minutes:g} minutes are over; run the same command to continue")
                    return
                values = draw_values(tuning.question.space, study.trials, tuning.seed)
                if values is None:
                    progress.say(f"all {count_combinations(tuning.question.space)} combinations have been tried")
                    return
                trial = study.put(Trial(number=len(study.trials) + 1, values=values))
            name = f"trial {trial.number}/{max(trials, trial.number)}"
            progress.say(f"{name}: {show_values(trial.values)}")
            try:
                trial = study.put(_Run(tuning, trial, TrialProgress(progress, name, quiet), prune).end(device, wait))
            except (KeyboardInterrupt, Interrupted) as error:
                raise Interrupted(f"interrupted in {name}; run the same command to resume it") from error
            quiet = True  # the other trainings would print the same lines again
            progress.event(**trial.model_dump())
            progress.say(f"{name}: {_describe_end(trial, study)}")
            if study.count("failed") == len(study.trials) >= min(trials, _MOST_FAILED):
                count = count_of(len(study.trials), "trial")
                raise StmnError(
                    f"{study.path}: {count} failed and none is done; the last failed because {trial.reason}"
                )


class _Run:
    """Runs one trial."""

    def __init__(self, tuning: Tuning, trial: Trial, progress: TrialProgress, prune: bool) -> None:
        self.tuning, self.trial, self.progress = tuning, trial, progress
        progress.validated = self._validated
        before = [other for other in tuning.study.trials if other.number != trial.number]
        self._early = EarlyStop(tuning.question.space, before, trial) if prune else None

    def end(self, device: str, wait: bool) -> Trial:
        """Train, or resume training, and return the trial as it ended.

        Raises:
            Interrupted, KeyboardInterrupt: it was interrupted.
            FolderInUse: another process trains with these values.
        """
        question, study = self.tuning.question, self.tuning.study
        try:
            plan = question.plan(self.trial.values)
            self._keep(run=plan.run.name)
            run = execute(
                plan, question.workspace, self.progress, device, wait=wait, tune=study.name, trial=self.trial.number
            )
        except Stopped as error:
            return self._changed(state="stopped", reason=str(error))
        except (Interrupted, FolderInUse):
            raise
        except StmnError as error:
            return self._changed(state="failed", reason=" ".join(error.lines))
        if (accuracy := accuracy_kept(run.results)) is None:
            steps = count_of(run.results["steps"], "step ends", "steps end")
            return self._changed(state="failed", reason=f"{steps} before the first validation: train longer")
        return self._changed(state="done", accuracy=round(accuracy, 6), seconds=run.record.get("seconds", 0.0))

    def _validated(self, step: int, accuracy: float) -> None:
        """Save a validation. Raises `Stopped` if the trial is to stop."""
        self._keep(course={**self.trial.course, step: accuracy})
        if self._early is not None and self._early.should_stop(step, accuracy):
            raise Stopped(f"stopped by tune after step {step}: worse than most trials at that step")

    def _keep(self, **changes: object) -> None:
        """Change the trial, on disk too."""
        self.trial = self.tuning.study.put(self._changed(**changes))

    def _changed(self, **changes: object) -> Trial:
        """The trial with changes."""
        return self.trial.model_copy(update=changes)


def _describe_end(trial: Trial, study: Study) -> str:
    """The outcome of a trial, in a line."""
    if trial.accuracy is None:
        return f"{trial.state}: {trial.reason}"
    best = study.best
    assert best is not None and best.accuracy is not None
    known = "the best so far" if best == trial else f"the best is trial {best.number}, {100 * best.accuracy:.1f} %"
    return f"{100 * trial.accuracy:.1f} % of the validation videos; {known}"
