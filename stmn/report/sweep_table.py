"""The table of methods as text: one row for each method that was tested several times."""

import csv
import io
from typing import Any

from stmn.report.words import format_p_value, format_percent, format_points
from stmn.runtime.csv_cells import safe_cell
from stmn.runtime.names import printable

#: key of a row -> column of the CSV file; then the same for its comparison
_COLUMNS = {
    "name": "row", "accuracy": "accuracy", "low": "low", "high": "high", "deviation": "deviation_over_seeds",
    "seeds": "seeds", "videos": "videos", "units": "units", "over": "units_are",
}  # fmt: skip
_COMPARED = {
    "difference": "difference", "low": "difference_low", "high": "difference_high", "alone": "only_this_row_correct",
    "other_alone": "only_the_other_correct", "paired_seeds": "paired_seeds", "p_value": "p_value", "test": "test",
}  # fmt: skip


def list_cells(row: dict[str, Any]) -> dict[str, str]:
    """The numbers of a row formatted for people; empty where there is none."""
    found = row.get("comparison") or {}
    return {
        "accuracy": format_percent(row["accuracy"]),
        "interval": format_interval(row.get("interval")),
        "deviation": "" if row.get("deviation") is None else format_percent(row["deviation"]),
        "seeds": str(row.get("seeds", "")),
        "videos": str(row.get("videos", "")),
        "difference": format_points(found["difference"]) if found else "",
        "difference_interval": format_gain(found.get("interval")),
        "alone": str(found.get("alone", "")),
        "other_alone": str(found.get("other_alone", "")),
        "p": format_p_value(found["p_value"]) if found else "",
    }


def format_interval(interval: list[float] | None) -> str:
    """`49.9 to 59.6`, in percent."""
    return "" if interval is None else f"{format_percent(interval[0])} to {format_percent(interval[1])}"


def format_gain(interval: list[float] | None) -> str:
    """`−1.3 to +4.9`, in percentage points."""
    return "" if interval is None else f"{format_points(interval[0])} to {format_points(interval[1])}"


def describe_caption(table: dict[str, Any]) -> str:
    """Explain the columns."""
    measured = next(row for row in reversed(table["rows"]) if "units" in row)
    text = (
        f"Accuracy in %: the mean over seeds, its 95 % interval over {measured['units']} {measured['over']}, and the "
        f"standard deviation over seeds."
    )
    if table["against"] is None:
        return text
    return (
        f"{text} Differences from {table['against']} in points, paired by video and seed; how many results only the "
        f"row, or only {table['against']}, gets right, over all seeds; p by a sign-flip test over {measured['over']} "
        f"for these seeds, not corrected for the number of rows."
    )


def make_markdown(table: dict[str, Any]) -> str:
    """The table as a Markdown page."""
    head = ["", "accuracy", "95 % interval", "sd", "seeds", "videos"]
    keys = ["accuracy", "interval", "deviation", "seeds", "videos"]
    if table["against"] is not None:
        head += ["difference", "95 % interval", "only this", "only the other", "p"]
        keys += ["difference", "difference_interval", "alone", "other_alone", "p"]
    lines = [f"# {_escape(table['data'])}", "", f"| {' | '.join(head)} |", f"|---|{'---:|' * len(keys)}"]
    for row in table["rows"]:
        cells = list_cells(row)
        lines.append(f"| {' | '.join([_escape(row['name']), *(cells[key] for key in keys)])} |")
    lines += ["", _escape(describe_caption(table))]
    lines += [text for note in table["notes"] for text in ("", _escape(note))]
    return "\n".join(lines) + "\n"


def make_csv(table: dict[str, Any]) -> str:
    """The table as CSV: shares in 0..1, with all digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_COLUMNS.values(), "against", *_COMPARED.values()])
    for row in table["rows"]:
        found = row.get("comparison") or {}
        values = _with_ends(row, _COLUMNS)
        compared = _with_ends(found, _COMPARED)
        writer.writerow(
            [safe_cell(v) if isinstance(v, str) else v for v in (*values, table["against"] if found else "", *compared)]
        )
    return out.getvalue()


def describe_row(row: dict[str, Any], against: str | None) -> str:
    """A row in one line: "fused: 52.3 [44.1, 60.4] %, +3.2 against motion, p = 0.03"."""
    cells = list_cells(row)
    text = f"{row['name']}: {cells['accuracy']} %"
    if cells["interval"]:
        text += f" [{cells['interval'].replace(' to ', ', ')}]"
    if cells["difference"]:
        text += f", {cells['difference']} against {against}, p = {cells['p']}"
    return text


def _with_ends(values: dict[str, Any], columns: dict[str, str]) -> list[Any]:
    """The values of a row in the order of its columns, with the ends of its interval."""
    low, high = values.get("interval") or (None, None)
    ends = values | {"low": low, "high": high}
    return ["" if (value := ends.get(key)) is None else value for key in columns]


def _escape(text: str) -> str:
    """Escape text, so that Markdown shows it as it is."""
    return "".join(f"\\{letter}" if letter in "\\|`*_[]<>" else letter for letter in printable(text))
