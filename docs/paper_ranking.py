"""How the order of a table's rows agrees with the paper's, for `make_experiments.py`: computed, with words for it."""

from collections import Counter
from itertools import combinations
from typing import Any, NamedTuple

from gate_rows import escape
from scipy.stats import kendalltau

from stmn.report.paper import NetworkSummary, PaperAccuracy, find_nearest
from stmn.report.sources import RunGraph, find_networks
from stmn.workspace import Run

#: the data sets of the paper, and what they are called
DATA = {"ucf101": "UCF101", "hmdb51": "HMDB51"}
#: fewer rows than these have no order worth a sentence, and fewer than those no p below 0.05
_FEWEST, _FEWEST_FOR_TAU = 3, 5
#: the gates of Table 2 whose errors are also the first row of Table 3
_BASELINE, _FIRST_DATA = "multiply, residual, motion to appearance", "ucf101"
#: streams and their late fusion: a matter of tables that compare methods
_METHODS = "Table 4"


class Row(NamedTuple):
    """A row of a table whose like is in the paper.

    Attributes:
        name: the row.
        accuracy: here, 0..1.
        interval: its 95 % interval.
        paper: data set -> the paper's accuracy.
        table: the paper's table, `Table 2`.
        p_values: other rows that it was compared with, videos paired -> p.
    """

    name: str
    accuracy: float
    interval: tuple[float, float]
    paper: dict[str, PaperAccuracy]
    table: str
    p_values: dict[str, float]

    def is_clearly_above(self, other: "Row") -> bool:
        """True if it is above another row with p < 0.05 or, where the two were not compared, with intervals apart."""
        p_value = self.p_values.get(other.name, other.p_values.get(self.name))
        if p_value is None:
            return self.interval[0] > other.interval[1]
        return self.accuracy > other.accuracy and p_value < 0.05


def compare_with_paper(run: Run, graph: RunGraph, compares_methods: bool) -> str:
    """The paper's numbers beside those of a finished table, and how the orders agree; empty if it has none.

    Args:
        run: the table.
        graph: all runs.
        compares_methods: it compares streams and fusion on real clips; others are about one part of the network.
    """
    rows = move_baseline(find_rows(run, graph))
    parts = []
    for table in dict.fromkeys(row.table for row in rows):
        own = [row for row in rows if row.table == table]
        if len(own) >= _FEWEST and (compares_methods or table != _METHODS):
            parts += [_make_table(own, table), *filter(None, (compare_orders(own, data) for data in DATA))]
    return "\n\n".join(parts)


def find_rows(run: Run, graph: RunGraph) -> list[Row]:
    """The rows of a table whose networks are in the paper's tables, whatever their depth and width."""
    results = {row["name"]: row for row in run.results["rows"]}
    evaluations = graph.find_causes(run)
    names = run.record["options"].get("rows") or []
    if len(evaluations) != len(names):  # a run that the table read is gone
        return []
    found = {}
    for name, evaluation in zip(names, evaluations, strict=True):
        if name in found or name not in results:
            continue
        nearest = {data: _find_like(evaluation, graph, data) for data in DATA}
        known = {data: accuracy for data, accuracy in nearest.items() if accuracy}
        if len(known) == len(DATA):
            row, table = results[name], next(iter(known.values())).source.split(",")[0]
            compared = {run.results["against"]: row["comparison"]["p_value"]} if row.get("comparison") else {}
            found[name] = Row(name, row["accuracy"], tuple(row["interval"]), known, table, compared)
    return list(found.values())


def move_baseline(rows: list[Row]) -> list[Row]:
    """Call the network without temporal filters a row of Table 3 beside others of it: there it is the first row."""
    tables = Counter(row.table for row in rows)
    if tables["Table 3"] == 0 or tables["Table 2"] > 1:
        return rows
    alike = [row.table == "Table 2" and row.paper[_FIRST_DATA].what == _BASELINE for row in rows]
    return [row._replace(table="Table 3") if is_it else row for row, is_it in zip(rows, alike, strict=True)]


def _find_like(evaluation: Run, graph: RunGraph, data: str) -> PaperAccuracy | None:
    """The paper's accuracy of a network tied in the same way, or of a stream; None if it has none like it."""
    led = graph.find_upstream([evaluation])
    modalities = {run.record["options"].get("modality") for run in led if run.record.get("verb") == "train-stream"}
    gates = find_networks(evaluation, graph).gates
    if gates and (gates.get("fusion") == "none" or gates.get("blank")):  # controls: the paper has none
        return None
    if evaluation.record["options"].get("stream_weights"):  # no table of the paper chooses weights
        return None
    role: Any = (
        "fused" if gates else {("rgb",): "appearance", ("flow",): "motion"}.get(tuple(modalities), "late_fusion")
    )
    found = find_nearest(data, role, NetworkSummary("resnet50", "resnet50", gates), "1")
    return found if found and not found.source.startswith("Table 5") else None


def _value(accuracy: PaperAccuracy) -> float:
    """An accuracy; the mean of two rows that can't be told apart in our copy of the paper."""
    return accuracy.accuracy if accuracy.also is None else (accuracy.accuracy + accuracy.also) / 2


def _make_table(rows: list[Row], table: str) -> str:
    """Both sides in %."""
    lines = [f"| {table} of the paper | here | {' | '.join(DATA.values())} |", f"|---|{'---:|' * (len(DATA) + 1)}"]
    for row in rows:
        cells = [
            f"{100 * row.paper[data].accuracy:.1f}"
            + (f" or {100 * also:.1f}" if (also := row.paper[data].also) is not None else "")
            + (" (motion x 3)" if row.paper[data].weighted else "")
            for data in DATA
        ]
        lines.append(f"| {escape(row.name)} | {100 * row.accuracy:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def compare_orders(rows: list[Row], data: str) -> str:
    """How the order of rows here agrees with that on a data set of the paper, in words; empty for too few rows."""
    rows = [row for row in rows if not row.paper[data].weighted]  # late fusion here averages streams 1:1
    if len(rows) < _FEWEST:
        return ""
    here, there = [row.accuracy for row in rows], [_value(row.paper[data]) for row in rows]
    pairs = [
        (a, b) if _value(a.paper[data]) > _value(b.paper[data]) else (b, a)
        for a, b in combinations(rows, 2)
        if _value(a.paper[data]) != _value(b.paper[data])
    ]  # (the paper's better one, its worse one)
    alike = sum(better.accuracy > worse.accuracy for better, worse in pairs)
    against = [(better, worse) for better, worse in pairs if worse.is_clearly_above(better)]
    confirmed = sum(better.is_clearly_above(worse) for better, worse in pairs)
    if len(set(here)) == 1:
        return f"**{DATA[data]}**: all rows have the same accuracy here, so they have no order."
    text = (
        f"**{DATA[data]}**: {alike} of {len(pairs)} pairs of rows are in the paper's order, {confirmed} of them clearly"
        f"{_compare_all(here, there)}."
    )
    if against:
        listed = "; ".join(f"`{worse.name}` above `{better.name}`" for better, worse in against)
        return f"{text} Clearly against the paper's order: {listed}."
    return f"{text} No pair is clearly against the paper's order."


def _compare_all(here: list[float], there: list[float]) -> str:
    """What Kendall's tau says of two orders; empty for so few rows that it can't say anything."""
    if len(here) < _FEWEST_FOR_TAU:
        return ""
    tau, p_value = kendalltau(here, there)
    if p_value >= 0.05:
        words = "so few rows don't show whether the orders are related"
    else:
        words = "the order agrees with the paper's" if tau > 0 else "the order contradicts the paper's"
    sure = f"p {'< 0.001' if p_value < 0.001 else f'= {p_value:.2g}'}"
    return f"; Kendall's tau is {tau:.2f} ({sure}): {words}".replace("-", "−")
