"""The figure of a confusion matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from stmn.report.figures.canvas import HEAT, INK, MUTED, ON_HEAT, new_figure, render_svg, shorten

#: large heat maps are pictures, whose colour can't be a variable: a blue that is visible on white and on black
_HEAT_RGB = (0.20, 0.48, 0.86)
#: matrices of up to this many classes show their numbers
NUMBERED = 12
#: matrices of up to this many classes show the classes' names
_NAMED = 110


def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str], key: str) -> str:
    """Draw a heat map of (classes, classes) counts. Rows are true classes; colour is the share of the row."""
    count = len(classes)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.38 * count, 1.5, 4.2) if count <= NUMBERED else np.clip(0.095 * count, 3.6, 9.6))
    longest = max(len(shorten(name, 22)) for name in classes) if count <= _NAMED else 0
    size = 8.5 if count <= NUMBERED else float(np.clip(60 * side / count, 4.5, 8.5))
    margin = 0.45 + longest * size * 0.0085
    with new_figure(key, side + margin, side + margin) as figure:
        axes = figure.subplots()
        axes.grid(visible=False)
        if count <= NUMBERED:
            _draw_cells(axes, confusion, shares)
        else:
            picture = np.empty((count, count, 4))
            picture[..., :3], picture[..., 3] = _HEAT_RGB, np.sqrt(shares)
            axes.imshow(picture, interpolation="none", extent=(0, count, count, 0), aspect="equal")
        for spine in axes.spines.values():
            spine.set(visible=True, linewidth=0.8)
        axes.set(xlim=(0, count), ylim=(count, 0), aspect="equal", xlabel="predicted class", ylabel="true class")
        middles: Any = np.arange(count) + 0.5 if count <= _NAMED else []
        names = [shorten(name, 22) for name in classes] if count <= _NAMED else []
        horizontal = count <= NUMBERED and longest * 0.075 < side / count
        axes.set_xticks(middles, names, rotation=0 if horizontal else 90, fontsize=size, color=INK)
        axes.set_yticks(middles, names, fontsize=size, color=INK)
        return render_svg(figure, key, "confusion matrix, rows are true classes, columns predicted ones", tight=True)


def _draw_cells(axes: Any, confusion: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    """Draw a square and a number for each entry of a small matrix."""
    for (row, column), count in np.ndenumerate(confusion):
        share = float(shares[row, column])
        if share:
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=HEAT, alpha=share, linewidth=0))
        axes.text(
            column + 0.5, row + 0.53, str(count), ha="center", va="center", fontsize=8.5,
            color=ON_HEAT if share > 0.55 else INK if count else MUTED,
        )  # fmt: skip
