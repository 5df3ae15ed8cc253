"""The figures about the inside of a gated network: what its gates pick, gradients, and temporal filters."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stmn.evaluation.inside.estimate import Estimate
from stmn.evaluation.inside.filters import FilterChange
from stmn.evaluation.inside.focus import UnitFocus
from stmn.evaluation.inside.gradients import Gradients
from stmn.evaluation.inside.look import Inside
from stmn.report.figures.canvas import INK, MUTED, WIDTH, get_colour, new_figure, render_svg

#: marks for different things in one row
_MARKS = ("o", "s", "D", "^")
#: marks for taps before, at and after the centre of a filter
_TAP_MARKS = ("<", "o", ">")


def draw_focus(focus: Sequence[UnitFocus], key: str) -> str:
    """Draw, for each gated unit, how much more of each signal falls on the target than on the distractor."""
    signals = [
        ("what the unit reads, gated", [unit.read.lead for unit in focus]),
        ("what the gate is sent", [unit.sent.lead for unit in focus]),
        ("what the unit reads, not gated", [unit.ungated.lead if unit.ungated else None for unit in focus]),
    ]
    shown = [(label, leads) for label, leads in signals if any(leads)]
    with new_figure(key, WIDTH, 0.9 + 0.42 * len(focus)) as figure:
        axes = figure.subplots()
        for number, (label, leads) in enumerate(shown):
            _draw_rows(axes, leads, number, len(shown), label)
        axes.axvline(0, color=MUTED, lw=1, ls=(0, (3, 2)))
        axes.set_xlabel(
            "density on the target less density on the distractor (1: as dense as on average over the frame)"
        )
        _name_rows(axes, _name_units([(unit.unit.label, unit.unit.receiver) for unit in focus]))
        figure.legend(loc="outside upper left", ncols=3, labelcolor=INK)
        return render_svg(figure, key, "how much more falls on the target than on the distractor, at each gate")


def draw_gradients(found: Inside, key: str) -> str:
    """Draw the gradient norm through each gate, for each gate function, beside that of the sender's own classifier."""
    both = (("before the streams were trained together", found.began), ("as trained", found.gradients))
    panels = [(title, measured) for title, measured in both if measured]
    rows = _name_units([(unit.unit, unit.receiver) for unit in found.gradients[0].units])
    with new_figure(key, WIDTH, 1.1 + 0.42 * len(rows)) as figure:
        grid = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
        for axes, (title, measured) in zip(grid, panels, strict=True):
            _draw_norms(axes, measured)
            axes.set_title(title, fontsize=9, loc="left", color=INK)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.set_xlabel("norm of the gradient of a video's loss")
            _name_rows(axes, rows)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4, labelcolor=INK)
        return render_svg(figure, key, "norms of the gradient through each gate, and from the sender's own classifier")


def draw_filters(filters: Sequence[FilterChange], key: str) -> str:
    """Draw, for each temporal filter, how far its mean taps moved, with their spread over channels."""
    streams = list(dict.fromkeys(item.stream for item in filters))
    most = max(sum(item.stream == stream for item in filters) for stream in streams)
    with new_figure(key, WIDTH, 1.1 + 0.3 * most) as figure:
        grid = figure.subplots(1, len(streams), squeeze=False, sharex=True)[0]
        for axes, stream in zip(grid, streams, strict=True):
            own = [item for item in filters if item.stream == stream]
            taps = len(own[0].taps)
            for tap in range(taps):
                rows = np.arange(len(own)) + _offset(tap, taps)
                moved = [item.taps[tap] - item.began[tap] for item in own]
                axes.errorbar(
                    moved, rows, xerr=[item.spread[tap] for item in own], fmt=_mark_of_tap(tap, taps), ms=5, lw=0,
                    elinewidth=1.3, color=get_colour(tap), label=_name_tap(tap, taps),
                )  # fmt: skip
            axes.axvline(0, color=MUTED, lw=1, ls=(0, (3, 2)))
            axes.set_title(stream, fontsize=9, loc="left", color=INK)
            axes.set_xlabel("change of the tap")
            axes.xaxis.get_major_locator().set_params(nbins=4)  # small changes have long numbers
            _name_rows(axes, [item.place for item in own])
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=5, labelcolor=INK)
        return render_svg(figure, key, "how far the taps of each temporal filter moved in training")


def _draw_norms(axes: Any, measured: Sequence[Gradients]) -> None:
    """Draw a panel of gradient norms: each gate function, and the sender's own classifier once: no gate changes it."""
    total = len(measured) + 1
    _draw_rows(axes, [unit.own for unit in measured[0].units], 0, total, "own classifier", series=None)
    for number, item in enumerate(measured, 1):
        _draw_rows(
            axes, [unit.through_gate for unit in item.units], number, total, f"through the gate, {item.fusion}",
            series=number - 1,
        )  # fmt: skip


def _draw_rows(
    axes: Any, estimates: Sequence[Estimate | None], number: int, total: int, label: str, scale: float = 1.0,
    series: int | None = -1,
) -> None:  # fmt: skip
    """Draw a dot with whiskers in each row, for one of `total` things. `series` -1: the colour of its number."""
    colour = get_colour(number if series == -1 else series)
    rows = np.arange(len(estimates)) + _offset(number, total)
    kept = [(row, e) for row, e in zip(rows, estimates, strict=True) if e is not None and np.isfinite(e.mean)]
    for row, e in kept:
        if np.isfinite(e.low):
            axes.plot([scale * e.low, scale * e.high], [row, row], color=colour, lw=1.6, solid_capstyle="butt")
    axes.plot(
        [scale * e.mean for _, e in kept], [row for row, _ in kept], _MARKS[number % len(_MARKS)], color=colour, ms=5.5,
        label=label,
    )  # fmt: skip


def _offset(number: int, total: int) -> float:
    """The offset within a row of the mark of one of several things."""
    return 0.5 * (number - (total - 1) / 2) / total


def _name_units(units: Sequence[tuple[str, str]]) -> list[str]:
    """`conv2 unit 2`, or `conv2 unit 2 of motion` where both streams have gates; each unit is its label and stream."""
    several = len({receiver for _, receiver in units}) > 1
    return [f"{label} of {receiver}" if several else label for label, receiver in units]


def _name_rows(axes: Any, labels: Sequence[str]) -> None:
    """Label the rows from the top, and remove lines between them."""
    axes.grid(axis="y", visible=False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.spines["left"].set_visible(False)


def _mark_of_tap(tap: int, taps: int) -> str:
    """A mark that points in the direction of the tap in time."""
    return _TAP_MARKS[1 + int(np.sign(tap - taps // 2))]


def _name_tap(tap: int, taps: int) -> str:
    """`chunk before`, `same chunk`, `chunk after`; with numbers for longer filters."""
    away = tap - taps // 2
    if not away:
        return "same chunk"
    count = "chunk" if abs(away) == 1 else f"{abs(away)} chunks"
    return f"{count} {'before' if away < 0 else 'after'}"
