"""The report's figures of classes: each evaluation's share of each class, and what one gains over another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.report.figures.drawing import BAD, GOOD, INK, MUTED, WIDTH, colour_of, figure, inline, short

#: classes beyond which rows are drawn dense
DENSE = 30


def class_figure(
    classes: Sequence[str],
    shares: NDArray[np.float64],
    labels: Sequence[str],
    key: str,
    difference: tuple[str, NDArray[np.float64]] | None = None,
) -> str:
    """A panel of bars for each evaluation, of (evaluations, classes) accuracies in 0..1; NaN: no test video.

    `difference`: a title and (classes,) differences in -1..1, for a last panel of gains and losses.
    """
    row, size = (0.155, 7.5) if len(classes) > DENSE else (0.24, 9)
    names = [short(name) for name in classes]
    panels = len(labels) + (difference is not None)
    width = max(WIDTH, 1.5 * panels + 0.06 * max(map(len, names)))
    with figure(key, width, 0.75 + row * len(classes)) as drawing:
        columns = drawing.subplots(1, panels, sharey=True, squeeze=False)[0]
        for number, (axes, values, label) in enumerate(zip(columns, shares, labels, strict=False)):
            share_panel(axes, values, colour_of(number), size)
            axes.set_title(short(label, max(12, 84 // panels)), fontsize=9, loc="left", color=INK)
        if difference is not None:
            gain_panel(columns[-1], difference[1], size)
            columns[-1].set_title(difference[0], fontsize=9, loc="left", color=INK)
        columns[0].set(ylim=(len(classes) - 0.4, -0.6))
        columns[0].set_yticks(np.arange(len(classes)), names, color=INK, fontsize=size)
        drawing.supxlabel("right, % of the class's test videos", fontsize=9, color=MUTED)
        return inline(drawing, key, "accuracy of each class for each evaluation")


def share_panel(axes: Any, values: NDArray[np.float64], colour: str, size: float) -> None:
    """Bars of shares in 0..1 with their numbers, in %."""
    axes.grid(axis="y", visible=False)
    axes.barh(np.arange(len(values)), 100 * np.nan_to_num(values), 0.68, color=colour)
    for place, value in enumerate(values):
        text, ink = ("no test video", MUTED) if np.isnan(value) else (f"{100 * value:.0f}", INK)
        beside_bar(axes, text, 100 * float(np.nan_to_num(value)), place, ink, size)
    axes.set(xlim=(0, 114), xticks=(0, 50, 100))
    axes.spines["bottom"].set_visible(False)


def gain_panel(axes: Any, gains: NDArray[np.float64], size: float, most: float | None = None) -> None:
    """Bars to both sides of zero, of differences in -1..1; their sign is written, so that it is not told by colour.

    `most` is the largest difference that the panel has room for; by default its own.
    """
    axes.grid(axis="y", visible=False)
    known = 100 * np.nan_to_num(gains)
    axes.barh(np.arange(len(known)), known, 0.68, color=[GOOD if gain > 0 else BAD for gain in known])
    for place, gain in enumerate(known):
        if round(gain):
            beside_bar(axes, f"{gain:+.0f}".replace("-", "−"), gain, place, INK, size)
        elif not np.isnan(gains[place]):
            beside_bar(axes, "0", 0.0, place, MUTED, size)
    reach = max(10.0, 1.6 * (float(np.abs(known).max()) if most is None else 100 * most))
    axes.axvline(0, color=MUTED, lw=0.8)
    axes.set(xlim=(-reach, reach))
    axes.spines[["bottom", "left"]].set_visible(False)


def beside_bar(axes: Any, text: str, end: float, place: int, ink: str, size: float) -> None:
    """A number at a bar's end, outside of it."""
    written = axes.annotate(
        text, (end, place), (3 if end >= 0 else -3, 0), textcoords="offset points", va="center",
        ha="left" if end >= 0 else "right", fontsize=size - 0.5, color=ink,
    )  # fmt: skip
    written.set_in_layout(False)  # there is room for it; measuring hundreds of numbers takes seconds


def difference_figure(
    classes: Sequence[str], gains: Sequence[NDArray[np.float64]], labels: Sequence[str], first: str, key: str
) -> str:
    """A panel for each run but the first: gains over the first in each class, (classes,) in -1..1, NaN: unknown."""
    row, size = (0.155, 7.5) if len(classes) > DENSE else (0.24, 9)
    names = [short(name) for name in classes]
    width = max(WIDTH, 1.8 * len(labels) + 0.06 * max(map(len, names)))
    with figure(key, width, 0.75 + row * len(classes)) as drawing:
        panels = drawing.subplots(1, len(labels), sharey=True, squeeze=False)[0]
        most = max(float(np.abs(np.nan_to_num(values)).max()) for values in gains)
        for axes, values, label in zip(panels, gains, labels, strict=True):
            gain_panel(axes, values, size, most)
            axes.set_title(short(label, max(12, 84 // len(labels))), fontsize=9, loc="left", color=INK)
        panels[0].set(ylim=(len(classes) - 0.4, -0.6))
        panels[0].set_yticks(np.arange(len(classes)), names, color=INK, fontsize=size)
        drawing.supxlabel(f"more or less right than {short(first)}, points", fontsize=9, color=MUTED)
        return inline(drawing, key, "difference of each class from the first run")
