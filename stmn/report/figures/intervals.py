"""The figure of accuracies with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stmn.report.figures.canvas import INK, MUTED, WIDTH, get_colour, new_figure, render_svg, shorten


@dataclass(frozen=True)
class AccuracyInterval:
    """An accuracy in 0..1 with its 95 % interval; `series` picks the colour (None: muted)."""

    label: str
    accuracy: float
    interval: Sequence[float]
    series: int | None


def draw_intervals(accuracies: Sequence[AccuracyInterval], chance: float, key: str) -> str:
    """Draw a dot with whiskers for each accuracy, and a line at `chance` (in 0..1)."""
    with new_figure(key, WIDTH, 0.62 + 0.3 * len(accuracies)) as figure:
        axes = figure.subplots()
        axes.grid(axis="y", visible=False)
        for row, item in enumerate(accuracies):
            colour = get_colour(item.series)
            axes.plot([100 * end for end in item.interval], [row, row], color=colour, lw=2, solid_capstyle="butt")
            for end in item.interval:
                axes.plot([100 * end] * 2, [row - 0.16, row + 0.16], color=colour, lw=1.4)
            hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 1.6} if item.series is None else {}
            axes.plot([100 * item.accuracy], [row], "D" if hollow else "o", color=colour, ms=6.5, **hollow)
            axes.annotate(
                f"{100 * item.accuracy:.1f}", (1, row), (8, 0), ("axes fraction", "data"), "offset points",
                va="center", color=INK, annotation_clip=False,
            )  # fmt: skip
        axes.axvline(100 * chance, color=MUTED, lw=1, ls=(0, (3, 2)))
        axes.annotate(
            "chance", (100 * chance, 1), (4, 2), ("data", "axes fraction"), "offset points", color=MUTED, fontsize=8
        )
        axes.set(xlim=(0, 101), ylim=(len(accuracies) - 0.5, -0.5), xlabel="accuracy, % of test videos")
        axes.set_yticks(range(len(accuracies)), [shorten(item.label, 48) for item in accuracies], color=INK)
        axes.spines["left"].set_visible(False)
        return render_svg(figure, key, "accuracy of each evaluation with its 95 % interval")
