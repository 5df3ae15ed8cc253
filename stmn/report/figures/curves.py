"""The figure of training curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.report.figures.canvas import INK, WIDTH, get_colour, get_line_style, new_figure, render_svg, shorten

#: the most points of a curve
POINTS = 150
#: numbers that are logged only now and then, and are never averaged
_SPARSE = ("validation_error", "rate")


@dataclass(frozen=True)
class Curve:
    """A training's log: rows with step, loss, accuracy, and sometimes rate and validation_error."""

    label: str
    rows: Sequence[dict[str, Any]]
    series: int


@dataclass(frozen=True)
class _CurvePanel:
    """A panel: the name of the logged number that it shows, its scale factor, and its axis."""

    name: str
    title: str
    scale: float = 1.0
    top: float | None = None
    logarithmic: bool = False


_PANELS = (
    _CurvePanel("loss", "loss"),
    _CurvePanel("accuracy", "accuracy of training samples, %", 100, 102),
    _CurvePanel("validation_error", "validation error, % of held-out training videos", 100),
    _CurvePanel("rate", "learning rate", logarithmic=True),
)


def draw_curves(curves: Sequence[Curve], key: str) -> str:
    """Draw a panel over steps for each number in the logs, with one line per training."""
    panels = [panel for panel in _PANELS if any(row.get(panel.name) is not None for c in curves for row in c.rows)]
    down, columns = -(-len(panels) // 2), 3 if max(len(curve.label) for curve in curves) < 30 else 2
    with new_figure(key, WIDTH, 2.6 * down + 0.35 + 0.2 * -(-len(curves) // columns)) as figure:
        grid = figure.subplots(down, 2, squeeze=False).flatten()
        handles: dict[str, Any] = {}
        for axes, panel in zip(grid, panels, strict=False):
            for curve in curves:
                line = _draw_line(axes, curve, panel)
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
        figure.legend(
            list(handles.values()), [shorten(label, 40) for label in handles], loc="outside upper left", ncols=columns,
            labelcolor=INK, handlelength=3.2,
        )  # fmt: skip
        shown = ", ".join(panel.name.replace("_", " ") for panel in panels)
        return render_svg(figure, key, f"training {shown} over steps")


def _draw_line(axes: Any, curve: Curve, panel: _CurvePanel) -> Any:
    """Draw one training's line, with rings where single values matter; None if its log lacks the number."""
    steps, values = _read_series(curve.rows, panel.name)
    if panel.logarithmic:  # a rate of zero has no logarithm
        steps, values = steps[values > 0], values[values > 0]
    if not len(steps):
        return None
    style: dict[str, Any] = {"color": get_colour(curve.series), "lw": 1.7, "ls": get_line_style(curve.series)}
    if panel.name == "validation_error" or len(steps) < 3:  # a line of one point is invisible
        style |= {"marker": "o", "ms": 4.5, "markerfacecolor": "none", "mew": 1.4}
    return axes.plot(steps, panel.scale * values, **style)[0]


def _read_series(rows: Sequence[dict[str, Any]], name: str) -> NDArray[np.float64]:
    """(2, points) steps and values, from the rows that have the value; neighbours are averaged if there are many."""
    values = np.array([[row["step"], row[name]] for row in rows if row.get(name) is not None], float).reshape(-1, 2)
    if name in _SPARSE or len(values) <= POINTS:
        return values.T
    return np.stack([group.mean(axis=0) for group in np.array_split(values, POINTS)], axis=1)
