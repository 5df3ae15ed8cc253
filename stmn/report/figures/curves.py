"""The report's figures of lines: trainings, and how far soft-max probabilities can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from stmn.evaluation.metrics import BINS
from stmn.evaluation.scores import Scores
from stmn.report.figures.drawing import INK, MUTED, WIDTH, colour_of, figure, inline, line_of, short

#: points of a curve at most
POINTS = 150
#: panels of the calibration figure beside each other
ACROSS = 5


@dataclass(frozen=True)
class Curve:
    """A training's log: rows of step, loss, accuracy and maybe rate and validation_error."""

    label: str
    rows: Sequence[dict[str, Any]]
    series: int


@dataclass(frozen=True)
class Panel:
    """One of the figure's axes: which number of a log's rows it shows, times what, and how."""

    name: str
    title: str
    scale: float = 1.0
    top: float | None = None
    logarithmic: bool = False


PANELS = (
    Panel("loss", "loss"),
    Panel("accuracy", "accuracy of training samples, %", 100, 102),
    Panel("validation_error", "validation error, % of held-out training videos", 100),
    Panel("rate", "learning rate", logarithmic=True),
)


def series_of(rows: Sequence[dict[str, Any]], name: str) -> NDArray[np.float64]:
    """(2, points): step and value, where rows have it; means of neighbours where they are more than a line can show.

    What is looked at now and then (the validation error) and the rate are never averaged.
    """
    values = np.array([[row["step"], row[name]] for row in rows if row.get(name) is not None], float).reshape(-1, 2)
    if name in ("validation_error", "rate") or len(values) <= POINTS:
        return values.T
    return np.stack([group.mean(axis=0) for group in np.array_split(values, POINTS)], axis=1)


def curves_figure(curves: Sequence[Curve], key: str) -> str:
    """A panel for each number that the logs have, over steps; one line a training."""
    panels = [panel for panel in PANELS if any(row.get(panel.name) is not None for c in curves for row in c.rows)]
    down, columns = -(-len(panels) // 2), 3 if max(len(curve.label) for curve in curves) < 30 else 2
    with figure(key, WIDTH, 2.6 * down + 0.35 + 0.2 * -(-len(curves) // columns)) as drawing:
        grid = drawing.subplots(down, 2, squeeze=False).flatten()
        handles: dict[str, Any] = {}
        for axes, panel in zip(grid, panels, strict=False):
            for curve in curves:
                line = draw_line(axes, curve, panel)
                if line is not None:
                    handles.setdefault(curve.label, line)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_title(panel.title, fontsize=9, loc="left", color=INK)
            axes.set(xlabel="step", xlim=(0, None))
            if panel.logarithmic:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter("{x:g}")
                axes.minorticks_off()
            else:
                axes.set_ylim(0, panel.top)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        drawing.legend(
            list(handles.values()), [short(label, 40) for label in handles], loc="outside upper left", ncols=columns,
            labelcolor=INK, handlelength=3.2,
        )  # fmt: skip
        return inline(
            drawing, key, f"training {', '.join(panel.name.replace('_', ' ') for panel in panels)} over steps"
        )


def draw_line(axes: Any, curve: Curve, panel: Panel) -> Any:
    """One training's line, with rings where single looks were taken; None when its log lacks the number."""
    steps, values = series_of(curve.rows, panel.name)
    if panel.logarithmic:  # a rate of zero has no logarithm
        steps, values = steps[values > 0], values[values > 0]
    if not len(steps):
        return None
    style: dict[str, Any] = {"color": colour_of(curve.series), "lw": 1.7, "ls": line_of(curve.series)}
    if panel.name == "validation_error" or len(steps) < 3:  # a line of one point can't be seen
        style |= {"marker": "o", "ms": 4.5, "markerfacecolor": "none", "mew": 1.4}
    return axes.plot(steps, panel.scale * values, **style)[0]


def reliability(scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, share right and number of videos of those of `BINS` bins of confidence that hold any."""
    mean = scores.mean().double().numpy()
    confidence = softmax(mean, axis=1).max(axis=1)
    right = mean.argmax(axis=1) == np.array(scores.labels)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    full = count > 0
    sums = (np.bincount(bins, values, BINS)[full] for values in (confidence, right))
    means = [values / count[full] for values in sums]
    return means[0], means[1], count[full]


def calibration_figure(parts: Sequence[Scores], errors: Sequence[float], labels: Sequence[str], key: str) -> str:
    """A panel for each evaluation: the share right over the soft-max of the best class; on the diagonal both agree.

    A dot's area is its bin's share of the videos; `errors` are the expected calibration errors in 0..1.
    """
    down = -(-len(parts) // ACROSS)
    with figure(key, WIDTH, 2.5 * down + 0.3) as drawing:
        grid = drawing.subplots(down, ACROSS, squeeze=False, sharex=True, sharey=True).flatten()
        for number, (axes, scores, error, label) in enumerate(zip(grid, parts, errors, labels, strict=False)):
            confidence, right, count = reliability(scores)
            axes.plot([0, 100], [0, 100], color=MUTED, lw=1, ls=(0, (3, 2)))
            axes.plot(100 * confidence, 100 * right, color=colour_of(number), lw=1.2, alpha=0.6)
            axes.scatter(
                100 * confidence, 100 * right, 12 + 140 * count / count.sum(), color=colour_of(number), linewidths=0
            )
            axes.set_title(f"{short(label, 20)}\nerror {100 * error:.1f}", fontsize=9, loc="left", color=INK)
            axes.set(xlim=(0, 103), ylim=(0, 103), xticks=(0, 50, 100), yticks=(0, 50, 100), aspect="equal")
        for axes in grid[len(parts) :]:
            axes.set_axis_off()
        drawing.supxlabel("soft-max of the best class, %", fontsize=9, color=MUTED)
        drawing.supylabel("right, %", fontsize=9, color=MUTED)
        return inline(drawing, key, "calibration: share right over confidence")
