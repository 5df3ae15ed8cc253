"""Run the experiments, and write docs/experiments.md from the records of their runs.

    python docs/make_experiments.py                 # at most four hours; what is done is not done again
    python docs/make_experiments.py --quick         # one seed, two folds, a twentieth of the steps; a page of its own
    python docs/make_experiments.py --write-only    # only the pages, from the runs that there are
    python docs/make_experiments.py --only small    # some of them
    python docs/make_experiments.py --jobs 1        # one after the other

An experiment is a recipe in recipes/experiments/ that ends in a table, `NAME.toml`, with `NAME.md` beside it: its title
and what it asks, without numbers. A recipe that renders no videos is run on each set of real clips, and so is `small`.
Every number of the page, and every sentence that judges, is computed from the runs. Results that the workspace doesn't
hold stay on the page until their recipe or their starting weights change: more than comments and the names of stages.
The block between the marks of two READMEs is rewritten too: it is the page's table of real clips.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from stmn.evaluation.repeats import Result, collect_methods, compare_methods
from stmn.evaluation.scores import load_scores
from stmn.report.sources import RunGraph, read_metrics
from stmn.report.sweep_table import make_markdown
from stmn.report.words import format_duration
from stmn.workspace import Run, Workspace

if __package__ is None:  # this folder is no package: its other files are found beside this one
    sys.path.insert(0, str(Path(__file__).parent))
from earlier_page import Columns, find_results, read_columns, read_sections, write_columns
from experiment_runs import (
    CLIPS,
    FOLDER,
    ROOT,
    Experiment,
    Runner,
    count_cores,
    find_table,
    list_experiments,
    read_state,
)
from gate_rows import describe_gates, escape
from paper_ranking import compare_with_paper

PAGE = ROOT / "docs" / "experiments.md"
#: pages with the same table of real clips
READMES = (ROOT / "README.md", ROOT / "plugins" / "stmn-formula" / "README.md")
#: rows that are compared with each other too
FUSED, LATE = "test-fused", "test-late-fusion"
BEGIN, END = "<!-- real clips: written by make experiments -->", "<!-- end of real clips -->"
HEAD = """\
# Experiments

What the method does on tasks that a laptop can run, and on real clips, beside the paper's tables.

    make experiments                 # stops after four hours; two or three calls do all of it on two cores
    make experiments QUICK=1         # 20 minutes, other numbers, in a page of its own

That runs the recipes of `recipes/experiments/` and writes this page from the records of the runs. No number here is
typed, and the sentences that judge are computed. Intervals and tests are over groups of videos, for the seeds that
were trained ([how](decisions/intervals.md#several-seeds)); the column sd says how far seeds differ. Two rows differ
"clearly" if p < 0.05 or, where they were not compared, if their intervals don't overlap. That holds for these seeds:
where seeds differ by much, others may order rows in another way. Nor is p corrected for the number of rows or of
comparisons with the paper: of twenty, one has p < 0.05 by chance. Kendall's tau says how alike two orders are: 1 is the
same order, 0 is unrelated, −1 is reversed.
"""
#: what a reader has to know of the real clips
ABOUT_CLIPS = """\
Each video is tested by networks that were trained on no video of its group. On Weizmann a group is a person. On
UT-Interaction it is a recording, and most people are in several, so they are in training and test: its rows say nothing
about people who have never been seen. Learning rates, width and sizes come from [earlier runs](guides/results.md) that
had seen test videos of UT-Interaction.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run and write; the exit code is 1 if an experiment failed."""
    chosen = _parse(arguments)
    experiments = list_experiments(chosen.recipes, chosen.clips)
    failed = []
    if not chosen.write_only:
        wanted = [one for one in experiments if not chosen.only or one.name in chosen.only]
        failed = Runner(chosen.workspace, chosen.data, chosen.quick, chosen.jobs).run(wanted)
    page = make_page(
        experiments, chosen.workspace, chosen.quick, "" if chosen.quick else PAGE.read_text(encoding="utf-8")
    )
    if chosen.quick:
        (chosen.workspace / "experiments.md").write_text(page, encoding="utf-8")
        print(f"wrote {chosen.workspace / 'experiments.md'}")
    else:
        PAGE.write_text(page, encoding="utf-8")
        for readme in READMES:
            readme.write_text(replace_block(readme.read_text(encoding="utf-8"), page), encoding="utf-8")
        others = " and ".join(str(readme.relative_to(ROOT)) for readme in READMES)
        print(f"wrote {PAGE.relative_to(ROOT)}, and the table of {others}")
    return 1 if failed else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run the experiments and write docs/experiments.md.")
    parser.add_argument("--quick", action="store_true", help="one seed, two folds, a twentieth of the steps")
    parser.add_argument("--write-only", action="store_true", help="run nothing")
    parser.add_argument(
        "--workspace", type=Path, help="folder of the runs [default: experiments, or experiments-quick]"
    )
    parser.add_argument("--recipes", type=Path, default=FOLDER, help="folder of the recipes")
    parser.add_argument("--clips", metavar="NAME", nargs="*", default=CLIPS, help="sets of real clips")
    parser.add_argument(
        "--only", metavar="NAME", nargs="*", help="run these alone: small, small_formula, which_moves, ..."
    )
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("STMN_SHARED_DATA") or ROOT.parent / "shared" / "data"),
        help="folder with a folder of clips for each real data set",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=1 if torch.cuda.is_available() else count_cores(),
        help="experiments that run at once [default: one for each core, or one if there is a CUDA card]",
    )  # fmt: skip
    chosen = parser.parse_args(arguments)
    chosen.workspace = chosen.workspace or ROOT / ("experiments-quick" if chosen.quick else "experiments")
    return chosen


def make_page(experiments: list[Experiment], workspace: Path, quick: bool = False, earlier: str = "") -> str:
    """The page, from the runs of a workspace.

    Args:
        experiments: what has a section, in their order.
        workspace: the folder of the runs.
        quick: whether they are quick runs.
        earlier: the page as it was; its results stay where the workspace has none.
    """
    graph = RunGraph(Workspace(workspace).runs()) if workspace.exists() else RunGraph([])
    state = read_state(workspace)
    sections, columns = read_sections(earlier), read_columns(read_block(earlier) if BEGIN in earlier else "")
    real: Columns = {}
    parts = []
    for experiment in experiments:
        if run := find_table(graph, experiment):
            results = _describe(experiment, run, graph, state, Workspace(workspace))
            found = dict([_make_column(experiment.column, run.results)])
        else:
            kept = find_results(sections.get(experiment.title, ""), experiment.files)
            results, renamed = kept or (_not_run(experiment), {})
            names = {_row_name(old): _row_name(new) for old, new in renamed.items()}
            found = {
                title: {names.get(row, row): cell for row, cell in column.items()}
                for title, column in columns.items()
                if kept and title.startswith(f"{escape(experiment.column)},")
            }
        real |= found if experiment.compares_methods else {}
        parts += [f"## {experiment.title}\n", f"{experiment.prose}\n" if experiment.prose else "", results]
    warning = (
        "**Quick runs: one seed, two folds, a twentieth of the steps. They show that it works, and nothing more.**\n"
    )
    table = write_columns(real) if real else "Not run yet.\n"
    parts = [HEAD, warning if quick else "", f"## Real clips\n\n{ABOUT_CLIPS}\n{BEGIN}\n{table}{END}\n", *parts]
    return "\n".join(part for part in parts if part)


def _not_run(experiment: Experiment) -> str:
    """What stands in place of a table."""
    return f"Not run. Recipe: {experiment.source}.\n"


def _describe(experiment: Experiment, run: Run, graph: RunGraph, state: dict[str, Any], workspace: Workspace) -> str:
    """Table, what it says, the paper's numbers, what the gates do, and how it was made."""
    table = run.results
    lines = [_without_title(make_markdown(table)), _judge(table), _compare_fused(run, graph)]
    lines += [compare_with_paper(run, graph, experiment.compares_methods), describe_gates(run, graph, workspace)]
    led = graph.find_upstream([run])
    seconds = sum(one.record.get("seconds") or 0 for one in led)
    protocols = dict.fromkeys(
        words for one in graph.find_causes(run) if (words := (read_metrics(one).get("protocol") or {}).get("words"))
    )
    seeds = sorted(set(run.record["options"].get("seeds") or []))
    noted = state.get(experiment.key, {})
    facts = {
        "recipe": experiment.source,
        "data": f"`{table['data']}`",
        "seeds": ", ".join(map(str, seeds)),
        "protocol": _join_protocols(list(protocols)) or "not recorded",
        "runs": f"{len(led)}, {format_duration(seconds)} in all",
        "commit": ", ".join(noted.get("commits", [])) or "not recorded",
        "machine": noted.get("machine", "not recorded"),
        "finished": time.strftime("%Y-%m-%d", time.gmtime(run.record["finished"])),
    }
    made = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return "\n\n".join([*filter(None, lines), f"How it was made:\n\n{made}"]) + "\n"


def _join_protocols(protocols: list[str]) -> str:
    """The first protocol, and of the others what it lacks."""
    parts = [protocol.split(", ") for protocol in protocols]
    lacking = [", ".join(part for part in others if part not in parts[0]) for others in parts[1:]]
    return "; also with ".join([*protocols[:1], *filter(None, lacking)])


def _without_title(markdown: str) -> str:
    """A table's page without its title."""
    return markdown.split("\n", 1)[1].strip()


def _judge(table: dict[str, Any]) -> str:
    """Which rows differ from the one that they are compared with, by the test, in words."""
    other = table["against"]
    if other is None:
        return ""
    compared = [(row["name"], row["comparison"]) for row in table["rows"] if row.get("comparison")]
    sorts: dict[str, list[str]] = {"better": [], "worse": [], "open": []}
    for name, found in compared:
        clear = found["p_value"] < 0.05
        sorts["open" if not clear else "better" if found["difference"] > 0 else "worse"].append(f"`{name}`")
    words = {"better": f"Clearly better than `{other}` with these seeds",
             "worse": f"Clearly worse than `{other}` with these seeds",
             "open": f"Not clearly different from `{other}`"}  # fmt: skip
    return "\n".join(f"- {words[sort]} (p {'<' if sort != 'open' else '≥'} 0.05): {', '.join(names)}."
                     for sort, names in sorts.items() if names)  # fmt: skip


def _compare_fused(run: Run, graph: RunGraph) -> str:
    """The fused network beside the late fusion of its streams, videos paired, in words; empty if a table lacks one."""
    rows, seeds = (run.record["options"].get(name) or [] for name in ("rows", "seeds"))
    evaluations = graph.find_causes(run)
    if not {FUSED, LATE} <= set(rows) or len(evaluations) != len(rows):
        return ""
    results = [
        Result(row, seed, load_scores(evaluation.output("scores")), evaluation.name)
        for row, seed, evaluation in zip(rows, seeds, evaluations, strict=True)
        if row in (FUSED, LATE)
    ]
    methods = {method.name: method for method in collect_methods(results)}
    found = compare_methods(methods[FUSED], methods[LATE])
    if found is None:
        return ""
    low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in found["interval"])
    difference = f"{100 * found['difference']:+.1f}".replace("-", "−")
    return (
        f"`{FUSED}` and `{LATE}`, videos paired: {difference} points ({low} to {high}), {found['alone']} to "
        f"{found['other_alone']} results that only one of them gets right, p = {found['p_value']:.2g}."
    )


def _make_column(name: str, table: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """A column of the table of real clips: its title, and accuracy and interval in % of each row."""
    cells = {}
    for row in table["rows"]:
        cells[_row_name(row["name"])] = _cell(row)
    return f"{escape(name)}, {_count(table)}", cells


def _row_name(name: str) -> str:
    """`late fusion`, for the row of a stage `test-late-fusion`."""
    return escape(name.removeprefix("test-").replace("-", " "))


def _count(table: dict[str, Any]) -> str:
    """`90 videos in 9 groups, 3 seeds`."""
    row = next(row for row in reversed(table["rows"]) if "units" in row)
    groups = f" in {row['units']} groups" if row["over"] == "groups" else ""
    return f"{row['videos']} videos{groups}, {row['seeds']} seed{'s' if row['seeds'] != 1 else ''}"


def _cell(row: dict[str, Any]) -> str:
    """`73.3 (60.1 to 83.2)`."""
    low, high = row.get("interval") or (None, None)
    return f"{100 * row['accuracy']:.1f}" + (f" ({100 * low:.1f} to {100 * high:.1f})" if low is not None else "")


def read_block(text: str) -> str:
    """What stands between the marks. Raises `ValueError` if there are none."""
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def replace_block(text: str, page: str) -> str:
    """A text with the page's block in place of its own."""
    return text.replace(f"{BEGIN}{read_block(text)}{END}", f"{BEGIN}{read_block(page)}{END}")


if __name__ == "__main__":
    sys.exit(main())
