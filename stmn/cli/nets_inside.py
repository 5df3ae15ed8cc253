"""The tables of `stmn nets inside`."""

from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from stmn.errors import count_of

if TYPE_CHECKING:
    from stmn.evaluation.inside.estimate import Estimate
    from stmn.evaluation.inside.focus import Share
    from stmn.evaluation.inside.look import Inside

_GRADIENT_WORDS = """\
own, gate, later: gradient norms from the sender's own classifier, through this
gate, and through later gates. factor: gradient norm at the gate's input divided
by that at its output; 1 for add, set by the other stream for multiply (eq. 7).
target: share of the gradient through the gate on the target (distractor), %."""


def make_tables(found: "Inside") -> "Iterator[Table | Text]":
    """The results as tables: shares on objects, gradients and filters, as far as there are any."""
    videos = count_of(len(found.clips), "video")
    if found.focus:
        yield _make_focus(found, videos)
    else:
        yield Text("Where the gates let something through: the data set doesn't say where its objects are.\n")
    for began, gradients in ((True, found.began), (False, found.gradients)):
        if gradients:
            when = "before the streams were trained together" if began else "as trained"
            yield _make_gradients(found, began, f"Gradient that reaches the sender, {when}; {videos}")
    yield Text(_GRADIENT_WORDS)
    if found.filters:
        yield _make_filters(found)


def _make_focus(found: "Inside", videos: str) -> Table:
    """Shares on the target and on the distractor, at each gate."""
    table = _new_table(f"On the target (on the distractor), % of the signal; {videos}")
    for name in ("gate", "maps", "area", "read without gate", "sent", "read"):
        table.add_column(name, justify="left" if name == "gate" else "right", no_wrap=True)
    table.add_column("picks")
    for unit in found.focus:
        shares = (unit.ungated, unit.sent, unit.read)
        table.add_row(
            unit.unit.label,
            "x".join(map(str, unit.positions)),
            _percent(unit.area.get("target")),
            *(_pair(share) for share in shares),
            "the target" if unit.read.picks else "-",
        )
    return table


def _make_gradients(found: "Inside", began: bool, title: str) -> Table:
    """Norms of the gradient's parts at each gate, for each gate function."""
    table = _new_table(title)
    for name in ("gates", "at", "own", "gate", "later", "factor"):
        table.add_column(name, justify="left" if name in ("gates", "at") else "right", no_wrap=True)
    masks = bool(found.focus)
    if masks:
        table.add_column("target", justify="right", no_wrap=True)
    for item in found.began if began else found.gradients:
        for number, unit in enumerate(item.units):
            norms = (unit.own, unit.through_gate, unit.through_later, unit.factor)
            cells = [_number(value) for value in norms] + ([_pair(unit.focus)] if masks else [])
            table.add_row("" if number else item.fusion, unit.unit, *cells)
    return table


def _make_filters(found: "Inside") -> Table:
    """Each temporal filter beside its initial taps."""
    table = _new_table("Temporal filters: mean taps from a channel to itself, and what training changed")
    for name in ("stream", "at", "began as", "is"):
        table.add_column(name, no_wrap=True)
    for name in ("moved", "off centre", "mixed"):
        table.add_column(name, justify="right", no_wrap=True)
    for item in found.filters:
        began = " ".join(f"{tap:.2g}" for tap in item.began)
        taps = " ".join(f"{tap:.2f}" for tap in item.taps)
        shares = (item.moved, item.off_centre, item.off_diagonal)
        table.add_row(item.stream, item.place, began, taps, *(f"{100 * share:.1f} %" for share in shares))
    return table


def _new_table(title: str) -> Table:
    """A table without lines."""
    return Table(title=Text(f"\n{title}", style="bold"), title_justify="left", box=None, pad_edge=False)


def _pair(share: "Share | None") -> str:
    """`13.2 (8.7)`: on the target, and on the distractor."""
    if share is None:
        return "-"
    other = share.objects.get("distractor")
    return _percent(share.objects.get("target")) + (f" ({_percent(other)})" if other else "")


def _percent(value: "Estimate | None") -> str:
    """`13.2`."""
    return f"{100 * value.mean:.1f}" if value and isfinite(value.mean) else "-"


def _number(value: "Estimate") -> str:
    """`0.028`."""
    return f"{value.mean:.3g}" if isfinite(value.mean) else "-"
