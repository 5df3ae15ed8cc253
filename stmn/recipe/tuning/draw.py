"""Draw the values of the next trial, and tell whether a trial does badly enough to be stopped. Optuna decides both."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stmn.errors import MissingExtra
from stmn.recipe.tuning.space import FEW, Range, Space, Value, combine, count_combinations
from stmn.recipe.tuning.study import Trial

if TYPE_CHECKING:
    import optuna

#: trials that must be done before any is stopped early
_BEFORE_STOPPING = 5


def load_optuna() -> Any:
    """Import Optuna, and silence its log. Raises `MissingExtra`."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra("tune", "optuna", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def draw_values(space: Space, trials: Sequence[Trial], seed: int) -> dict[str, Value] | None:
    """Draw the values of the next trial: a function of seed and earlier trials, so a resumed study draws the same.

    The first ten trials are random. Later ones are drawn near good ones (TPE, the tree-structured Parzen estimator).

    Args:
        space: What to draw from.
        trials: The trials that have ended.
        seed: In 0..2^32 - 1.

    Returns:
        Key -> value; None if all combinations have been tried.
    """
    optuna = load_optuna()
    stream = np.random.SeedSequence([seed, len(trials)])
    tried = [trial.values for trial in trials]
    untried: list[dict[str, Value]] = []
    if (count_combinations(space) or math.inf) <= FEW:
        untried = [values for values in combine(space) if values not in tried]
        if not untried:
            return None
    sampler = optuna.samplers.TPESampler(seed=int(stream.generate_state(1)[0]))
    drawn = _study_of(space, trials, sampler=sampler).ask(_distributions(space)).params
    values = {key: one.round(drawn[key]) if isinstance(one, Range) else drawn[key] for key, one in space.items()}
    if untried and values not in untried:
        return untried[int(np.random.default_rng(stream).integers(len(untried)))]
    return values


class EarlyStop:
    """Tells whether a trial does worse than most: its best accuracy so far is below the others' median at a step."""

    def __init__(self, space: Space, trials: Sequence[Trial], trial: Trial) -> None:
        pruner = load_optuna().pruners.MedianPruner(n_startup_trials=_BEFORE_STOPPING)
        study = _study_of(space, trials, pruner=pruner)
        study.enqueue_trial(dict(trial.values))
        self._trial = study.ask(_distributions(space))
        self.course: dict[int, float] = {}
        for step, accuracy in trial.course.items():
            self.should_stop(step, accuracy)

    def should_stop(self, step: int, accuracy: float) -> bool:
        """True if the trial should stop after a validation (accuracy 0..1) at a step."""
        if step not in self.course:  # a resumed trial may validate again at a step
            self._trial.report(accuracy, step)
            self.course[step] = accuracy
        return bool(self._trial.should_prune())


def _study_of(space: Space, trials: Sequence[Trial], **parts: Any) -> "optuna.Study":
    """The trials as an Optuna study. Failed ones count as the worst, so that later ones stay away from their values."""
    optuna = load_optuna()
    study = optuna.create_study(direction="maximize", **parts)
    for trial in trials:
        done = trial.state == "done"
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.PRUNED,
                value=trial.accuracy if done else None,
                params=dict(trial.values),
                distributions=_distributions(space),
                intermediate_values=dict(trial.course) if trial.state != "failed" else {},
            )
        )
    return study  # type: ignore[no-any-return]


def _distributions(space: Space) -> dict[str, Any]:
    """The space as Optuna's distributions."""
    kinds = load_optuna().distributions
    found: dict[str, Any] = {}
    for key, one in space.items():
        if isinstance(one, Range):
            kind = kinds.IntDistribution if one.whole else kinds.FloatDistribution
            found[key] = kind(one.low, one.high, log=one.log)
        else:
            found[key] = kinds.CategoricalDistribution(one.values)
    return found
