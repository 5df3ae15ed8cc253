"""The figures of classes: each evaluation's accuracy in each class, and what one gains over another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.report.figures.canvas import BAD, GOOD, INK, MUTED, WIDTH, get_colour, new_figure, render_svg, shorten

#: more classes than this are drawn densely
_DENSE = 30
#: more classes than this are drawn in several figures, each of which fits on a sheet of paper
_LARGEST = 60
#: width of a number beside a bar, inches
_NUMBER = 0.3


@dataclass(frozen=True)
class _ClassPanel:
    """A panel of bars, one per class: accuracies in 0..1 if it has a colour, else gains in -1..1."""

    title: str
    values: NDArray[np.float64]
    colour: str | None = None


def draw_class_accuracies(
    classes: Sequence[str],
    accuracies: NDArray[np.float64],
    labels: Sequence[str],
    key: str,
    gains: tuple[str, NDArray[np.float64]] | None = None,
) -> list[str]:
    """Draw a panel of bars for each evaluation.

    Args:
        classes: names of the classes, from top to bottom.
        accuracies: (evaluations, classes) in 0..1; NaN without test videos.
        labels: titles of the panels.
        key: the figures' own name on the page.
        gains: a title and (classes,) differences in -1..1 for a last panel.

    Returns:
        <svg> elements, each with some of the classes.
    """
    panels = [
        _ClassPanel(label, values, get_colour(number))
        for number, (label, values) in enumerate(zip(labels, accuracies, strict=True))
    ]
    if gains:
        panels.append(_ClassPanel(*gains))
    return _draw_panels(
        classes, panels, key, "correct, % of the class's test videos", "accuracy of each class for each evaluation"
    )


def draw_class_gains(
    classes: Sequence[str], gains: Sequence[NDArray[np.float64]], labels: Sequence[str], first: str, key: str
) -> list[str]:
    """Draw a panel of bars for each evaluation except the first.

    Args:
        classes: names of the classes, from top to bottom.
        gains: for each evaluation (classes,) differences from the first in -1..1; NaN without test videos.
        labels: titles of the panels.
        first: the label of the first evaluation.
        key: the figures' own name on the page.

    Returns:
        <svg> elements, each with some of the classes.
    """
    panels = [_ClassPanel(label, values) for label, values in zip(labels, gains, strict=True)]
    return _draw_panels(
        classes, panels, key, f"accuracy minus that of {shorten(first)}, points",
        "difference of each class from the first evaluation",
    )  # fmt: skip


def _draw_panels(
    classes: Sequence[str], panels: Sequence[_ClassPanel], key: str, x_label: str, description: str
) -> list[str]:
    """Draw panels beside each other, in as many figures as the classes need."""
    points = 100 * np.concatenate([[0.0], *(np.nan_to_num(panel.values) for panel in panels if panel.colour is None)])
    extent = float(points.min()), float(points.max())
    names = [shorten(name) for name in classes]
    height, size = (0.155, 7.5) if len(classes) > _DENSE else (0.24, 9)
    labels = 0.06 * max(map(len, names))
    width = max(WIDTH, 1.6 * len(panels) + labels)
    margin = _NUMBER / ((width - labels) / len(panels) - 0.2)
    parts = np.array_split(np.arange(len(classes)), -(-len(classes) // _LARGEST))
    found = []
    for number, rows in enumerate(parts):
        part = f", part {number + 1} of {len(parts)}" if len(parts) > 1 else ""
        with new_figure(f"{key}-{number}", width, 0.75 + height * len(rows)) as figure:
            grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
            for axes, panel in zip(grid, panels, strict=True):
                axes.grid(axis="y", visible=False)
                axes.set_title(shorten(panel.title, max(12, 84 // len(panels))), fontsize=9, loc="left", color=INK)
                if panel.colour is None:
                    _draw_gains(axes, panel.values[rows], size, margin, extent)
                else:
                    _draw_accuracies(axes, panel.values[rows], panel.colour, size, margin)
            grid[0].set(ylim=(len(rows) - 0.4, -0.6))
            grid[0].set_yticks(np.arange(len(rows)), [names[row] for row in rows], color=INK, fontsize=size)
            figure.supxlabel(x_label, fontsize=9, color=MUTED)
            found.append(render_svg(figure, f"{key}-{number}", description + part))
    return found


def _draw_accuracies(axes: Any, accuracies: NDArray[np.float64], colour: str, size: float, margin: float) -> None:
    """Draw bars of accuracies in 0..1 with their numbers in %; a number needs `margin` of the panel's width."""
    axes.barh(np.arange(len(accuracies)), 100 * np.nan_to_num(accuracies), 0.68, color=colour)
    for row, value in enumerate(accuracies):
        text, ink = ("no test video", MUTED) if np.isnan(value) else (f"{100 * value:.0f}", INK)
        _write_number(axes, text, 100 * float(np.nan_to_num(value)), row, ink, size)
    axes.set(xlim=(0, 100 / (1 - margin)), xticks=(0, 50, 100))
    axes.spines["bottom"].set_visible(False)


def _draw_gains(axes: Any, gains: NDArray[np.float64], size: float, margin: float, extent: tuple[float, float]) -> None:
    """Draw bars of differences in -1..1 on both sides of zero. Signs are written: colour alone is not enough.

    `extent` is the largest loss and gain to make room for, in points.
    """
    points = 100 * np.nan_to_num(gains)
    axes.barh(np.arange(len(points)), points, 0.68, color=[GOOD if gain > 0 else BAD for gain in points])
    for row, gain in enumerate(points):
        if round(gain):
            _write_number(axes, f"{gain:+.0f}".replace("-", "−"), gain, row, INK, size)
        elif not np.isnan(gains[row]):
            _write_number(axes, "0", 0.0, row, MUTED, size)
    low, high = extent[0], max(extent[1], 10.0)
    room = 1.25 * margin * (high - low) / (1 - 2.5 * margin)  # for a number with its sign, on either side
    tick = max(step for step in (5, 10, 20, 50, 100) if step <= max(5.0, high, -low))
    axes.axvline(0, color=MUTED, lw=0.8)
    axes.set(xlim=(low - room, high + room), xticks=[at for at in (-tick, 0, tick) if low <= at <= high])
    axes.spines[["bottom", "left"]].set_visible(False)


def _write_number(axes: Any, text: str, end: float, row: int, ink: str, size: float) -> None:
    """Write a number beyond the end of a bar."""
    written = axes.annotate(
        text, (end, row), (3 if end >= 0 else -3, 0), textcoords="offset points", va="center",
        ha="left" if end >= 0 else "right", fontsize=size - 0.5, color=ink,
    )  # fmt: skip
    written.set_in_layout(False)  # there is room for it; measuring hundreds of numbers takes seconds
