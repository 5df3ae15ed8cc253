"""The figure of calibration: how far soft-max probabilities can be trusted."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from stmn.evaluation.metrics import BINS
from stmn.evaluation.scores import Scores
from stmn.report.figures.canvas import INK, MUTED, WIDTH, get_colour, new_figure, render_svg, shorten

#: panels beside each other
_ACROSS = 5


def draw_calibration(parts: Sequence[Scores], errors: Sequence[float], labels: Sequence[str], key: str) -> str:
    """A panel for each evaluation: accuracy over confidence, which agree on the diagonal.

    A dot's area is the share of videos in its bin.

    Args:
        parts: the evaluations' scores.
        errors: their expected calibration errors in 0..1.
        labels: titles of the panels.
        key: the figure's own name on the page.
    """
    down = -(-len(parts) // _ACROSS)
    with new_figure(key, WIDTH, 2.5 * down + 0.3) as figure:
        grid = figure.subplots(down, _ACROSS, squeeze=False, sharex=True, sharey=True).flatten()
        for number, (axes, scores, error, label) in enumerate(zip(grid, parts, errors, labels, strict=False)):
            confidence, accuracy, count = _bin_by_confidence(scores)
            colour = get_colour(number)
            axes.plot([0, 100], [0, 100], color=MUTED, lw=1, ls=(0, (3, 2)))
            axes.plot(100 * confidence, 100 * accuracy, color=colour, lw=1.2, alpha=0.6)
            axes.scatter(100 * confidence, 100 * accuracy, 12 + 140 * count / count.sum(), color=colour, linewidths=0)
            axes.set_title(f"{shorten(label, 20)}\nerror {100 * error:.1f}", fontsize=9, loc="left", color=INK)
            axes.set(xlim=(0, 103), ylim=(0, 103), xticks=(0, 50, 100), yticks=(0, 50, 100), aspect="equal")
            axes.set_xlabel("confidence, %")
            if number % _ACROSS == 0:
                axes.set_ylabel("correct, %")
        for axes in grid[len(parts) :]:
            axes.set_axis_off()
        return render_svg(figure, key, "calibration: accuracy over confidence")


def _bin_by_confidence(scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, accuracy and number of videos of those of `BINS` bins of confidence that hold any."""
    mean = scores.mean().double().numpy()
    confidence = softmax(mean, axis=1).max(axis=1)
    correct = mean.argmax(axis=1) == np.array(scores.labels)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    full = count > 0
    means = [np.bincount(bins, values, BINS)[full] / count[full] for values in (confidence, correct)]
    return means[0], means[1], count[full]
