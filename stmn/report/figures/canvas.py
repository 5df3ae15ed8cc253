"""Shared by all figures: style, colours, and the step from a drawing to an <svg> element.

Every colour is a placeholder that `render_svg` replaces with a CSS variable, so that one drawing suits light and dark
pages. Text remains text, in the page's font, and is never read as mathematics.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from stmn.report.figures import SERIES_COLOURS

INK, MUTED, RULE, HEAT, ON_HEAT = "#010101", "#010102", "#010103", "#010104", "#010105"
GOOD, BAD = "#010106", "#010107"
_SERIES = tuple(f"#0102{number:02x}" for number in range(SERIES_COLOURS))
_VARIABLES = {
    INK: "--ink", MUTED: "--muted", RULE: "--rule", HEAT: "--heat", ON_HEAT: "--on-heat", GOOD: "--good", BAD: "--bad",
} | {placeholder: f"--series-{number}" for number, placeholder in enumerate(_SERIES)}  # fmt: skip
#: width of a figure, inches of 96 pixels: the same as the page's text
WIDTH = 9.8
_LINE_STYLES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_STYLE = {
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


@contextmanager
def new_figure(key: str, width: float, height: float) -> Iterator[Figure]:
    """An empty figure in the pages' style.

    Args:
        key: the figure's own name on its page; ids inside the figure depend on nothing else.
        width: in inches.
        height: in inches.
    """
    with rc_context(cast(Any, _STYLE | {"svg.hashsalt": key})):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def render_svg(figure: Figure, key: str, description: str, tight: bool = False) -> str:
    """A figure as an <svg> element for an HTML page.

    Args:
        figure: the drawing.
        key: as for `new_figure`; ids start with it.
        description: what the figure shows, for people who can't see it.
        tight: cut off empty margins.
    """
    file = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # glyphs that matplotlib's font lacks; the browser has them
        figure.savefig(
            file, format="svg", transparent=True, bbox_inches="tight" if tight else None, pad_inches=0.03,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )  # fmt: skip
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^<>]+>", lambda tag: _restyle(tag[0], key), text)  # only tags: class names stay as they are
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)


def get_colour(series: int | None) -> str:
    """The placeholder for a series' colour; muted for None."""
    return MUTED if series is None else _SERIES[series % len(_SERIES)]


def get_line_style(series: int) -> Any:
    """The line style of a series. It differs between neighbours and between series of one colour."""
    return _LINE_STYLES[(series + series // len(_SERIES)) % len(_LINE_STYLES)]


def shorten(name: str, length: int = 34) -> str:
    """Cut a name to fit beside an axis. Its end is kept, because long names in a data set differ there."""
    if len(name) <= length:
        return name
    end = length // 3
    return f"{name[: length - end - 1]}…{name[-end:]}"


def _restyle(tag: str, key: str) -> str:
    """Rewrite one tag: variables for colours, the page's font, and ids of its own."""
    tag = re.sub(r' (xmlns(:\w+)?|version)="[^"]*"', "", tag).replace("xlink:href", "href")
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", tag)
    tag = re.sub(r"(font: [^;\"]*?[\d.]+px )[^;\"]+", r"\1var(--font)", tag)
    return re.sub(r"#010[12]\w\w", lambda colour: f"var({_VARIABLES[colour[0]]})", tag)
