"""The figure of calibration: how far probabilities can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from stmn.evaluation.metrics import BINS
from stmn.evaluation.scores import Scores
from stmn.report.figures.canvas import INK, MUTED, WIDTH, get_colour, new_figure, render_svg, shorten

#: panels beside each other
_ACROSS = 5


@dataclass(frozen=True)
class CalibrationPanel:
    """Scores that are logits, their expected calibration error in 0..1, a title, and the series that picks a colour."""

    scores: Scores
    error: float
    title: str
    series: int


def draw_calibration(panels: Sequence[CalibrationPanel], key: str) -> str | None:
    """Draw a panel for each evaluation: accuracy over confidence. On the diagonal the two are equal.

    A dot's area is the share of videos in its bin.

    Args:
        panels: the evaluations.
        key: the figure's own name on the page.

    Returns:
        An <svg> element; None if there are no panels.
    """
    if not panels:
        return None
    down = -(-len(panels) // _ACROSS)
    with new_figure(key, WIDTH, 2.5 * down + 0.3) as figure:
        grid = figure.subplots(down, _ACROSS, squeeze=False, sharex=True, sharey=True).flatten()
        for number, (axes, panel) in enumerate(zip(grid, panels, strict=False)):
            confidence, accuracy, count = _bin_by_confidence(panel.scores)
            colour = get_colour(panel.series)
            axes.plot([0, 100], [0, 100], color=MUTED, lw=1, ls=(0, (3, 2)))
            axes.plot(100 * confidence, 100 * accuracy, color=colour, lw=1.2, alpha=0.6)
            axes.scatter(100 * confidence, 100 * accuracy, 12 + 140 * count / count.sum(), color=colour, linewidths=0)
            axes.set_title(
                f"{shorten(panel.title, 20)}\nerror {100 * panel.error:.1f}", fontsize=9, loc="left", color=INK
            )
            axes.set(xlim=(0, 103), ylim=(0, 103), xticks=(0, 50, 100), yticks=(0, 50, 100), aspect="equal")
            axes.set_xlabel("confidence, %")
            if number % _ACROSS == 0:
                axes.set_ylabel("correct, %")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        return render_svg(figure, key, "calibration: accuracy over confidence")


def _bin_by_confidence(scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, accuracy and number of videos in each of the `BINS` confidence bins that isn't empty."""
    mean = scores.mean().double().numpy()
    confidence = softmax(mean, axis=1).max(axis=1)
    correct = mean.argmax(axis=1) == np.array(scores.labels)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    full = count > 0
    means = [np.bincount(bins, values, BINS)[full] / count[full] for values in (confidence, correct)]
    return means[0], means[1], count[full]
