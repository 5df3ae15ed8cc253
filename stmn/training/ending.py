"""Messages at the end of training: whether more steps would help, what was kept, how to train on all videos."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from scipy.stats import linregress

from stmn.errors import count_of
from stmn.training.kept import best_validation
from stmn.training.plan import Plan
from stmn.training.state import TrainingState

#: training is judged by the accuracy in its last third, if that has at least this many rows of the log
_FEWEST_ROWS = 6
#: unsaturated: accuracy below this, a rise of at least this over the last third, with a p-value below this
_SATURATED, _RISE, _P = 0.95, 0.03, 0.001


def judge_saturation(history: Sequence[dict[str, Any]], plan: Plan, errors: Sequence[float]) -> dict[str, Any] | None:
    """Decide whether a training ended while it was still learning.

    A straight line is fitted to the training accuracy over the last third of the steps. Training was unsaturated if the
    line ends below 95 %, rises by 3 points or more, and is unlikely to rise by chance (one-sided t-test, p < 0.001).
    A `plateau` schedule that ended by itself is saturated.

    Args:
        history: rows of the log.
        plan: the plan of the training.
        errors: the validation errors.

    Returns:
        `accuracy_before` and `accuracy`, the ends of the line, and `steps`, its length; None if training is saturated
        or its log is too short to tell.
    """
    rows = [row for row in history if 3 * row["step"] > 2 * plan.steps]
    if len(rows) < _FEWEST_ROWS or plan.schedule.saturated(errors):
        return None
    steps = [row["step"] for row in rows]
    line = linregress(steps, [row["accuracy"] for row in rows], alternative="greater")
    before, after = (float(line.intercept + line.slope * step) for step in (steps[0], steps[-1]))
    if not (after < _SATURATED and after - before >= _RISE and line.pvalue < _P):
        return None
    return {"accuracy_before": round(before, 4), "accuracy": round(after, 4), "steps": steps[-1] - steps[0]}


def describe_saturation(found: dict[str, Any], plan: Plan) -> str:
    """Return the message about what `judge_saturation` found."""
    return (
        f"not saturated: training accuracy is {100 * found['accuracy']:.0f} % and rising, from "
        f"{100 * found['accuracy_before']:.0f} % {count_of(found['steps'], 'step')} before; train longer, with --steps "
        f"{2 * plan.steps} for instance"
    )


def describe_choice(state: TrainingState, plan: Plan, kept_videos: int, held_out: int) -> list[str]:
    """Return lines about what validation chose, and the options to train the same way on all videos.

    Without validation there are none.

    Args:
        state: the final state of the training.
        plan: the plan of the training.
        kept_videos: number of training videos.
        held_out: number of validation videos.
    """
    best = best_validation(state.history)
    if best is None:
        return []
    what = "keeping the weights" if plan.keep_best else "the best validation was that"
    lines = [
        f"validation: {what} of step {best['step']} of {state.step}: error "
        f"{100 * float(str(best['validation_error'])):.1f} %, the lowest of {len(state.errors)}"
    ]
    whole = plan.schedule.name == "cosine" or not plan.keep_best  # a cosine that ends early is another schedule
    steps = plan.steps if plan.schedule.name == "cosine" else state.step if whole else int(str(best["step"]))
    options = f"--validation 0 --steps {ceil(steps * (kept_videos + held_out) / kept_videos)}"
    if plan.schedule.name == "plateau":
        lowered = [
            f"{before['epoch']:g}"
            for before, row in zip(state.history, state.history[1:], strict=False)
            if row["rate"] < before["rate"] and before["step"] >= plan.schedule.warm_up and before["step"] < steps
        ]
        options += f" --schedule steps --milestones {','.join(lowered)}" if lowered else " --schedule steps"
        # the rate was never lowered: without this, the schedule's own milestones would apply
        options += "" if lowered else f" --milestones {ceil(steps * plan.batch / kept_videos) + 1}"
    lines.append(f"to train the same way on all {count_of(kept_videos + held_out, 'video')}: {options}")
    return lines
