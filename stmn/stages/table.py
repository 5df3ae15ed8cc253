"""table: one row per method that was trained and tested several times, with chance and the box-shape baseline."""

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from stmn.errors import DataError, UsageError, near_match
from stmn.options.table import TableOptions
from stmn.runtime.files import atomic_write, write_json
from stmn.stages.base import Context, Result, Stage
from stmn.stages.sources import describe_changes, find_inputs
from stmn.workspace import Input, Run, Workspace

if TYPE_CHECKING:
    from stmn.evaluation.repeats import Method
    from stmn.evaluation.repeats import Result as Tested
    from stmn.store.format.read import Store

#: the seed and split in the id of an instance
_REPEATS = re.compile(r"(, )?\b(seed|split)=[^,\]]*")
#: names of the rows without training; the other rows may be compared with the second
CHANCE, BOX_SHAPES = "chance", "box shapes alone"


class Table(Stage[TableOptions]):
    """Writes `table.md`, `table.csv` and `table.json`."""

    options = TableOptions
    format = 2
    makes = ("table",)

    def complete(self, options: TableOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> TableOptions:
        """Fill in rows, seeds and the data set."""
        from stmn.evaluation.agreement import read_source
        from stmn.evaluation.scores import load_scores

        if not options.evaluations and "evaluations" not in inputs:
            raise UsageError("name the evaluations that the table is of: stmn table EVALUATION ...")
        given = find_inputs(options, "evaluations", workspace, inputs)
        sources = [read_source(load_scores(item.path).protocol, item.label) for item in given]
        rows = options.rows or _name_rows(given, workspace)
        seeds = options.seeds or _number(rows, [source.split for source in sources])
        known = [*dict.fromkeys(rows), BOX_SHAPES]
        by_name = dict(zip(options.evaluations or (), rows, strict=False))
        if options.against not in known and options.against in by_name:
            options = options.model_copy(update={"against": by_name[options.against]})
        if options.against is not None and options.against not in known:
            raise UsageError(
                f"against = '{options.against}': no such row{near_match(options.against, known)}; rows: "
                f"{', '.join(known)}"
            )
        names = {source.data for source in sources if source.data in workspace.prepared()}
        data = names.pop() if options.data is None and len(names) == 1 else options.data
        return options.model_copy(update={"rows": rows, "seeds": seeds, "data": data})

    def label(self, options: TableOptions) -> str:
        """`table`."""
        return "table"

    def check(self, options: TableOptions, context: Context) -> None:
        """Refuse scores of another data set or other classes, and results of one row that don't belong together."""
        from stmn.evaluation.agreement import check_source
        from stmn.evaluation.repeats import collect_methods
        from stmn.store.format.read import Store

        results = _load(options, context)
        with Store(context.data) as store:
            for line in describe_changes([r.scores for r in results], [r.name for r in results], store):
                context.progress.say(line)
            for result in results:
                check_source(result.scores, result.name, store.header)
        collect_methods(results)

    def run(self, options: TableOptions, context: Context) -> Result:
        """Measure, compare and write."""
        from stmn.evaluation.repeats import collect_methods
        from stmn.report.sweep_table import describe_row, make_csv, make_markdown
        from stmn.store.format.read import Store

        results = _load(options, context)
        methods = collect_methods(results)
        with Store(context.data) as store:
            by_shapes = _guess_by_shapes(methods[0], store)
            data = store.header.name
        table = _measure([*([by_shapes] if by_shapes else []), *methods], options.against)
        table |= {"data": data, "chance": 1 / len(results[0].scores.classes)}
        guesses = [{"name": CHANCE, "accuracy": table["chance"]}]
        if largest := _find_large_class(results):
            guesses.append({"name": f"always {largest[0]}", "accuracy": largest[1]})
        table["rows"][:0] = guesses
        write_json(context.out / "table.json", table)
        for name, text in (("table.md", make_markdown(table)), ("table.csv", make_csv(table))):
            with atomic_write(context.out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        for row in table["rows"]:
            context.progress.say(describe_row(row, table["against"]))
        for note in table["notes"]:
            context.progress.say(note)
        return Result({"table": "table.json", "markdown": "table.md", "csv": "table.csv"}, table)


def _load(options: TableOptions, context: Context) -> "list[Tested]":
    """Load each evaluation."""
    from stmn.evaluation.repeats import Result as Tested
    from stmn.evaluation.scores import load_scores

    assert options.rows is not None and options.seeds is not None
    named = zip(options.rows, options.seeds, context.inputs["evaluations"], strict=True)
    return [Tested(row, seed, load_scores(item.path), item.label) for row, seed, item in named]


def _find_large_class(results: "list[Tested]") -> tuple[str, float] | None:
    """The largest class of all tested videos and its share, if that is clearly above chance."""
    from stmn.evaluation.metrics import find_large_class

    labels = {video: label for r in results for video, label in zip(r.scores.ids, r.scores.labels, strict=True)}
    counts = Counter(labels.values())
    return find_large_class({name: counts[number] for number, name in enumerate(results[0].scores.classes)})


def _name_rows(given: list[Input], workspace: Workspace) -> list[str]:
    """The row of each evaluation: its stage's id without seed and split, or its run's label."""
    from stmn.report.sources import RunGraph, find_run, label_evaluations

    runs = [find_run(item) or Run(item.path.parent) for item in given]
    labels = label_evaluations(runs, [item.name for item in given], RunGraph(workspace.runs()))
    stages = [str(run.record.get("stage", "")) for run in runs]
    return [
        _REPEATS.sub("", stage).replace("[, ", "[").removesuffix("[]") if stage else label
        for stage, label in zip(stages, labels, strict=True)
    ]


def _number(rows: list[str], splits: list[str]) -> list[int]:
    """Number the evaluations that share a row and a split 0, 1, ..., as their seeds."""
    seen: dict[tuple[str, str], int] = {}
    numbers = []
    for key in zip(rows, splits, strict=True):
        numbers.append(seen.get(key, 0))
        seen[key] = numbers[-1] + 1
    return numbers


def _guess_by_shapes(method: "Method", store: "Store") -> "Method | None":
    """The box-shape baseline on a method's videos, learned from each split's training part; None if not test videos."""
    from stmn.evaluation.baseline import measure_box_shape_baseline
    from stmn.evaluation.repeats import add_guesses

    if method.protocol.get("part", "test") != "test":
        return None
    correct: dict[tuple[str, str], bool] = {}
    for split in method.splits:
        folds = (method.protocol.get("folds") or store.header.splits) if split == "all" else [split]
        for fold in folds:
            baseline = measure_box_shape_baseline(store, fold) if fold in store.header.splits else None
            if baseline is None:
                return None
            for video, name in baseline["predictions"].items():
                correct[split, video] = store.video(video).class_name == name
    return add_guesses(method, BOX_SHAPES, correct)


def _measure(methods: "list[Method]", against: str | None) -> dict[str, Any]:
    """The rows, and notes on what their numbers can't show."""
    from stmn.evaluation.agreement import describe_differences, find_differences
    from stmn.evaluation.repeats import compare_methods, measure_method

    other = next((method for method in methods if method.name == against), None)
    if against is not None and other is None:
        raise DataError(f"against = '{against}': the data set has no such baseline; name another row")
    rows, notes = [], dict[str, None]()
    first = next((method for method in methods if method.protocol), methods[0])
    for method in methods:
        row = measure_method(method)
        if other is not None and method is not other:
            row["comparison"] = compare_methods(method, other)
            if row["comparison"] is None:
                notes[f"{method.name}: tested on other videos or seeds than {other.name}; not compared."] = None
            elif row["comparison"]["test_limit"]:
                notes[f"{row['comparison']['test_limit']}."] = None
        if method.protocol and (differ := find_differences(first.protocol, method.protocol)):
            notes[f"{method.name}: measured in another way than {first.name}: {describe_differences(differ)}."] = None
        if few := method.find_units().few:
            notes[f"{few} too few to say how much groups differ."] = None
        rows.append(row)
    return {"rows": rows, "against": against, "notes": list(notes)}
