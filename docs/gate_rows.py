"""What the gates of each row of a table do, for `make_experiments.py`: measured once and kept in the workspace."""

from pathlib import Path
from typing import Any

from stmn.report.sources import RunGraph
from stmn.runtime.files import write_json
from stmn.runtime.json_files import read_json
from stmn.stages.inside import look_at
from stmn.workspace import Run, Workspace

#: videos that are read of each network
VIDEOS = 64


def find_gated_models(table: Run, graph: RunGraph) -> dict[str, Run]:
    """Row -> the first of its tied networks, in the order of the table."""
    found: dict[str, Run] = {}
    evaluations, names = graph.find_causes(table), table.record["options"].get("rows") or []
    if len(evaluations) != len(names):
        return {}
    for name, evaluation in zip(names, evaluations, strict=True):
        tied = [
            run for run in graph.find_upstream([evaluation])
            if run.record.get("verb") == "fuse" and run.record["options"].get("fusion") != "none" and run.makes("model")
        ]  # fmt: skip
        if tied and name not in found:
            found[name] = tied[0]
    return found


def measure_gates(table: Run, graph: RunGraph, workspace: Workspace) -> None:
    """Look inside the first network of each row that has gates, unless that was done before."""
    for run in find_gated_models(table, graph).values():
        path = _file_of(run, workspace)
        if not path.exists():
            model = str(run.output("model"))
            _, found = look_at(model, table.results["data"], None, "test", VIDEOS, "auto", workspace)
            path.parent.mkdir(exist_ok=True)
            write_json(path, found.as_json())


def describe_gates(table: Run, graph: RunGraph, workspace: Workspace) -> str:
    """A table of what was measured, and what its columns are; empty if nothing was."""
    rows = []
    for name, run in find_gated_models(table, graph).items():
        path = _file_of(run, workspace)
        if path.exists() and (found := read_json(path))["focus"]:
            rows.append(_make_row(name, found))
    if not rows:
        return ""
    head = [
        "gates of the first seed",
        "pick the target at",
        "density of the first gate",
        "gradient, % of own",
        "its density",
    ]
    lines = [f"| {' | '.join(head)} |", f"|---|---|{'---:|' * 3}", *rows, "", _WORDS]
    return "\n".join(lines)


_WORDS = (
    "Measured as `stmn nets inside` does ([what is meant](guides/testing.md#look-inside)). Density: how much denser "
    "what the first gated unit reads is on the target than on the distractor, with its 95 % interval; 0 if it is as "
    "dense on both. Gradient: the norm of what reaches the sending stream through that gate, in % of what comes from "
    "its own classifier; and how much denser it is on the target than on the distractor."
)


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\|`*_[]<>" else letter for letter in text)


def _file_of(run: Run, workspace: Workspace) -> Path:
    """Where the measurement of a network is kept."""
    return workspace.root / "inside" / f"{run.name}.json"


def _make_row(name: str, found: dict[str, Any]) -> str:
    """The row of a network."""
    picks = [unit["unit"]["part"] for unit in found["focus"] if unit["read"]["picks"]]
    compared = any(unit["read"]["lead"] is not None for unit in found["focus"])  # with a distractor
    gradient = found["gradients"][0]["units"][0]
    own = gradient["own"]["mean"]
    share = f"{100 * gradient['through_gate']['mean'] / own:.2g}" if own else ""
    cells = [
        ", ".join(dict.fromkeys(picks)) or ("none" if compared else ""),
        _lead(found["focus"][0]["read"]),
        share,
        _lead(gradient["focus"]),
    ]
    return f"| {escape(name)} | {' | '.join(cells)} |"


def _lead(share: dict[str, Any]) -> str:
    """`+1.34 (0.90 to 1.80)`; empty without a distractor."""
    lead = share["lead"]
    if lead is None or lead["mean"] is None:
        return ""
    ends = "" if lead["low"] is None else f" ({lead['low']:.2f} to {lead['high']:.2f})"
    return f"{lead['mean']:+.2f}{ends}"
