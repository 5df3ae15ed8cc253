"""The report's figures: how they are drawn, and those of intervals and confusions.

Matplotlib draws them, the page's style sheet colours them.

Every colour is a stand-in that `inline` turns into a CSS variable, so that one drawing suits light and dark pages. Text
stays text, in the page's font, and is never read as mathematics.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

INK, MUTED, RULE, HEAT, ON_HEAT = "#010101", "#010102", "#010103", "#010104", "#010105"
GOOD, BAD = "#010106", "#010107"
#: as many as the style sheet has --series-N; line styles change when they start again
SERIES = tuple(f"#0102{number:02x}" for number in range(8))
VARIABLES = {
    INK: "--ink", MUTED: "--muted", RULE: "--rule", HEAT: "--heat", ON_HEAT: "--on-heat", GOOD: "--good", BAD: "--bad",
} | {stand_in: f"--series-{number}" for number, stand_in in enumerate(SERIES)}  # fmt: skip
#: larger heat maps are pictures, whose colour can't be a variable: a blue that reads on white and on black
HEAT_RGB = (0.20, 0.48, 0.86)
#: inches that a figure is wide: the page's text, whose inch has 96 pixels
WIDTH = 9.8
#: confusion matrices up to this size show their numbers
NUMBERED = 12
#: and up to this size the names of the classes
NAMED = 110
LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Share:
    """A share of right videos in 0..1 with its 95 % interval; `series` picks the colour (None: muted)."""

    label: str
    value: float
    low: float
    high: float
    series: int | None


@contextmanager
def figure(key: str, width: float, height: float) -> Iterator[Figure]:
    """An empty figure of that size in inches, drawn under the report's style; ids in it are a function of `key`."""
    with rc_context(cast(Any, STYLE | {"svg.hashsalt": key})):
        drawing = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(drawing)
        yield drawing


def inline(drawing: Figure, key: str, description: str, tight: bool = False) -> str:
    """The figure as an <svg> element for an HTML page; `tight` cuts its empty margins off.

    `key` must be the figure's own: ids start with it. `description` is for those who can't see it.
    """
    file = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # glyphs that matplotlib's font lacks; the browser has them
        drawing.savefig(
            file, format="svg", transparent=True, bbox_inches="tight" if tight else None, pad_inches=0.03,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )  # fmt: skip
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^<>]+>", lambda tag: themed(tag[0], key), text)  # tags alone: names of classes stay as they are
    return text.replace("<svg", f'<svg role="img" aria-label="{attribute(description)}"', 1)


def themed(tag: str, key: str) -> str:
    """One tag with variables for colours, the page's font, and ids of its own."""
    tag = re.sub(r' (xmlns(:\w+)?|version)="[^"]*"', "", tag).replace("xlink:href", "href")
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", tag)
    tag = re.sub(r"(font: [^;\"]*?[\d.]+px )[^;\"]+", r"\1var(--font)", tag)
    return re.sub(r"#010[12]\w\w", lambda colour: f"var({VARIABLES[colour[0]]})", tag)


def attribute(text: str) -> str:
    """Text for a quoted attribute."""
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


def colour_of(series: int | None) -> str:
    """The stand-in of a series' colour."""
    return MUTED if series is None else SERIES[series % len(SERIES)]


def line_of(series: int) -> Any:
    """The line style of a series: neighbours differ, and so do series of one colour."""
    return LINES[(series + series // len(SERIES)) % len(LINES)]


def short(name: str, length: int = 34) -> str:
    """A name that fits beside an axis; its end stays, where long names of one data set differ."""
    if len(name) <= length:
        return name
    end = length // 3
    return f"{name[: length - end - 1]}…{name[-end:]}"


def interval_figure(shares: Sequence[Share], chance: float, key: str) -> str:
    """Dot and whiskers for each share, above a line at chance."""
    with figure(key, WIDTH, 0.62 + 0.3 * len(shares)) as drawing:
        axes = drawing.subplots()
        axes.grid(axis="y", visible=False)
        for row, share in enumerate(shares):
            colour = colour_of(share.series)
            axes.plot([100 * share.low, 100 * share.high], [row, row], color=colour, lw=2, solid_capstyle="butt")
            for end in (share.low, share.high):
                axes.plot([100 * end] * 2, [row - 0.16, row + 0.16], color=colour, lw=1.4)
            hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 1.6} if share.series is None else {}
            axes.plot([100 * share.value], [row], "D" if hollow else "o", color=colour, ms=6.5, **hollow)
            axes.annotate(
                f"{100 * share.value:.1f}", (1, row), (8, 0), ("axes fraction", "data"), "offset points",
                va="center", color=INK, annotation_clip=False,
            )  # fmt: skip
        axes.axvline(100 * chance, color=MUTED, lw=1, ls=(0, (3, 2)))
        axes.annotate(
            "chance", (100 * chance, 1), (4, 2), ("data", "axes fraction"), "offset points", color=MUTED, fontsize=8
        )
        axes.set(xlim=(0, 101), ylim=(len(shares) - 0.5, -0.5), xlabel="accuracy, % of the test videos")
        axes.set_yticks(range(len(shares)), [short(share.label, 48) for share in shares], color=INK)
        axes.spines["left"].set_visible(False)
        return inline(drawing, key, "accuracy of each evaluation with its 95 % interval")


def confusion_figure(confusion: NDArray[np.int64], classes: Sequence[str], key: str) -> str:
    """Heat map of an (N, N) matrix of counts, rows: true class; colour is the share of the row."""
    count = len(classes)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.38 * count, 1.5, 4.2) if count <= NUMBERED else np.clip(0.095 * count, 3.6, 9.6))
    longest = max(len(short(name, 22)) for name in classes) if count <= NAMED else 0
    size = 8.5 if count <= NUMBERED else float(np.clip(60 * side / count, 4.5, 8.5))
    margin = 0.45 + longest * size * 0.0085
    with figure(key, side + margin, side + margin) as drawing:
        axes = drawing.subplots()
        axes.grid(visible=False)
        if count <= NUMBERED:
            cells(axes, confusion, shares)
        else:
            picture = np.empty((count, count, 4))
            picture[..., :3], picture[..., 3] = HEAT_RGB, np.sqrt(shares)
            axes.imshow(picture, interpolation="none", extent=(0, count, count, 0), aspect="equal")
        for spine in axes.spines.values():
            spine.set(visible=True, linewidth=0.8)
        axes.set(xlim=(0, count), ylim=(count, 0), aspect="equal", xlabel="predicted class", ylabel="true class")
        middles: Any = np.arange(count) + 0.5 if count <= NAMED else []
        names = [short(name, 22) for name in classes] if count <= NAMED else []
        upright = count <= NUMBERED and longest * 0.075 < side / count
        axes.set_xticks(middles, names, rotation=0 if upright else 90, fontsize=size, color=INK)
        axes.set_yticks(middles, names, fontsize=size, color=INK)
        return inline(drawing, key, "confusion matrix, rows are true classes, columns predicted ones", tight=True)


def cells(axes: Any, confusion: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    """One square and number for each entry of a small matrix."""
    for (row, column), count in np.ndenumerate(confusion):
        share = float(shares[row, column])
        if share:
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=HEAT, alpha=share, linewidth=0))
        axes.text(
            column + 0.5, row + 0.53, str(count), ha="center", va="center", fontsize=8.5,
            color=ON_HEAT if share > 0.55 else INK if count else MUTED,
        )  # fmt: skip
