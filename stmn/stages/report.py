"""report: one HTML file with the numbers, figures, curves and sample videos of finished evaluations."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn.errors import DataError
from stmn.stages.execute import Context, Made
from stmn.stages.options import Trained, option
from stmn.workspace import Input, Run, Workspace, read_run

if TYPE_CHECKING:
    from stmn.evaluation.report import Evaluation, Step, Training

#: stages whose runs are evaluations
EVALUATING = ("evaluate", "fuse-idt")


class Options(Trained):
    """Options of `stmn report`."""

    evaluations: list[str] | None = option(
        None, "finished evaluations (default: the newest of each model on this data set and split)", input="scores"
    )
    samples: int = option(8, "test videos that are shown", ge=0, le=200)
    title: str | None = option(None, "title of the page (default: the data set and split)")


class Chain:
    """Which run made what another one read."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = list(runs)
        self.by_fingerprint: dict[str, Run] = {}
        self.by_name: dict[str, Run] = {}
        self.by_file: dict[tuple[str, ...], Run] = {}
        for run in self.runs:
            self.by_fingerprint.setdefault(run.record.get("fingerprint", ""), run)
            self.by_name[run.name] = run
            for file in run.record.get("outputs", {}).values():
                self.by_file[(run.name, file)] = run

    def causes(self, run: Run) -> list[Run]:
        """The runs whose outputs a run read, as far as they are in this workspace."""
        read = [i for fingerprints in run.record.get("inputs", {}).values() for i in fingerprints]
        # a model that was named as a file has the file's fingerprint, but its path still says which run made it
        files = [Path(name).parts[-2:] for name in run.results.get("of", [])]
        found = [self.by_fingerprint.get(i) for i in read] + [self.by_file.get(parts) for parts in files]
        return [cause for cause in found if cause]

    def models(self, run: Run) -> list[str]:
        """The fingerprints of the models and files behind an evaluation, through the evaluations that it fuses."""
        found: list[str] = []
        for fingerprints in run.record.get("inputs", {}).values():
            for fingerprint in fingerprints:
                cause = self.by_fingerprint.get(fingerprint)
                inner = cause and cause.record.get("verb") in EVALUATING
                found += self.models(cause) if cause and inner else [fingerprint]
        return found

    def upstream(self, starts: Iterable[Run]) -> list[Run]:
        """The runs that led to `starts`, and these, each once, causes before effects."""
        order: dict[Path, Run] = {}
        open_runs: set[Path] = set()

        def visit(run: Run) -> None:
            if run.path in open_runs:
                return
            open_runs.add(run.path)
            for cause in self.causes(run):
                visit(cause)
            order[run.path] = run

        for start in starts:
            visit(start)
        return list(order.values())


def complete(options: Options, workspace: Workspace, inputs: dict[str, list[Input]]) -> Options:
    """Fill in the evaluations and the data set that they are of."""
    if options.evaluations is None and "evaluations" not in inputs:
        data = workspace.find_data(options.data).name
        given = newest_evaluations(Chain(workspace.runs()), data, options.split)
        if not given:
            raise DataError(
                f"no finished evaluation of data set {data}, split {options.split}; make one with: stmn evaluate"
            )
        return options.model_copy(update={"evaluations": [str(run.path) for run in given]})
    if options.data is None:
        found = inputs.get("evaluations") or [workspace.find_input(i, "scores") for i in options.evaluations or []]
        records = [run.record for item in found if (run := run_of(item))]
        names = {record.get("options", {}).get("data") or record.get("data", {}).get("name") for record in records}
        if len(names) == 1:
            return options.model_copy(update={"data": names.pop()})
    return options


def label(options: Options) -> str:
    """`report`."""
    return "report"


def plugins(options: Options) -> list[dict[str, str]]:
    """None."""
    return []


def check(options: Options, context: Context) -> None:
    """Raise `MissingExtra` without matplotlib or jinja2."""
    from stmn.evaluation.report import check_extra

    check_extra()


def run(options: Options, context: Context) -> Made:
    """Write `report.html`. Raises `DataError` when evaluations are of another data set or know different classes."""
    from stmn.evaluation.report import Contents, warnings, write_report
    from stmn.store.reader import Store

    chain = Chain(context.workspace.runs())
    with Store(context.data) as store:
        given = context.inputs["evaluations"]
        evaluations = evaluations_of(given, chain)
        for item, evaluation in zip(given, evaluations, strict=True):
            check_data(item, evaluation, store.header.name)
        led = chain.upstream(run for item in given if (run := run_of(item)))
        prepared = read_run(context.data)
        used = {run.record["data"].get("fingerprint") for run in led if "data" in run.record}
        split = ", ".join(dict.fromkeys(e.scores.protocol.get("split") or options.split for e in evaluations))
        contents = Contents(
            title=options.title or f"Action recognition on {store.header.name}, split {split}",
            split=split,
            evaluations=evaluations,
            trainings=trainings_of(led),
            steps=[step_of(run, context.workspace.root) for run in ([prepared] if prepared else []) + led],
            warnings=list(warnings(evaluations, same_data=used <= {store.fingerprint})),
            samples=options.samples,
            seed=options.seed,
        )
        write_report(context.out / "report.html", contents, store)
    context.progress.say(f"report: {context.out / 'report.html'}")
    shown = ("accuracy", "interval", "videos")
    table = [{"name": e.label} | {key: e.metrics[key] for key in shown} for e in evaluations]
    return Made(outputs={"report": "report.html"}, results={"table": table})


def newest_evaluations(chain: Chain, data: str, split: str) -> list[Run]:
    """The newest finished evaluation of each distinct model (or fusion of models), oldest first."""
    found: dict[str, Run] = {}
    for run in chain.runs:  # newest first
        options = run.record.get("options", {})
        of_data = (run.record.get("data", {}).get("name"), options.get("split")) == (data, split)
        if run.done and run.record.get("verb") in EVALUATING and of_data and "scores" in run.record["outputs"]:
            what = [run.record["verb"], chain.models(run), options.get("weights")]
            found.setdefault(json.dumps(what), run)
    return list(found.values())[::-1]


def run_of(item: Input) -> Run | None:
    """The run whose scores a file holds, or None for a file that lies elsewhere."""
    run = read_run(item.path.parent)
    return run if run and run.record.get("outputs", {}).get("scores") == item.path.name else None


def evaluations_of(given: list[Input], chain: Chain) -> list["Evaluation"]:
    """Scores and numbers of each input, with labels that tell them apart.

    A file that is no run's is measured here.
    """
    from stmn.evaluation.metrics import measure
    from stmn.evaluation.report import Evaluation
    from stmn.evaluation.scores import load_scores

    scores = [load_scores(item.path) for item in given]
    runs = [run_of(item) or Run(item.path.parent) for item in given]
    metrics = [measure(s) | {"protocol": s.protocol} | metrics_of(run) for run, s in zip(runs, scores, strict=True)]
    names = [names_of(run, short_path(item.name), chain) for run, item in zip(runs, given, strict=True)]
    tested = [tuple(c.record["fingerprint"] for c in chain.causes(run)) for run in runs]
    marks = [(item.fingerprint, short_path(item.name)) for item in given]
    columns = (distinct(names), scores, metrics, *zip(*marks, strict=True), tested)
    return [Evaluation(*row) for row in zip(*columns, strict=True)]


def metrics_of(run: Run) -> dict[str, Any]:
    """What a run measured, or nothing when its metrics file is missing or damaged."""
    try:
        return json.loads((run.path / run.record["outputs"]["metrics"]).read_text())
    except (OSError, ValueError, KeyError):
        return {}


def names_of(run: Run, name: str, chain: Chain) -> tuple[str, str, str]:
    """What to call an evaluation, from short to certainly distinct: "fused-multiply", ... ."""
    from stmn.evaluation.report import bare

    stage = run.record.get("stage")
    if stage:  # what the recipe calls it
        return stage, f"{stage} ({name})", f"{stage} ({name})"
    models = [short_path(text) for part in run.results.get("of") or [name] for text in parts_of(part, chain)]
    full = " + ".join(models)
    return " + ".join(map(bare, models)), full, f"{full} ({name})"


def parts_of(name: str, chain: Chain) -> list[str]:
    """The models behind a name in an evaluation's "of": itself, or, for an evaluation, those that were tested in it."""
    run = chain.by_name.get(name)
    if run and run.record.get("verb") in EVALUATING:
        return [text for part in run.results.get("of", []) for text in parts_of(part, chain)] or [name]
    return [name]


def short_path(name: str) -> str:
    """A file with its folder, whose name says which run it is of; other names as they are."""
    return "/".join(Path(name).parts[-2:])


def distinct(names: Sequence[tuple[str, ...]]) -> list[str]:
    """For each the first of its names that no other has at that place, or its last one."""
    columns = list(zip(*names, strict=True))
    found = []
    for row in names:
        own = [text for column, text in zip(columns, row, strict=True) if column.count(text) == 1]
        found.append(own[0] if own else row[-1])
    return found


def check_data(item: Input, evaluation: "Evaluation", data: str) -> None:
    """Raise `DataError` when an evaluation is of another data set: its videos could not be shown."""
    measured = evaluation.scores.protocol.get("data") or data
    if measured != data:
        raise DataError(f"{item.name} is of data set {measured}, this report of {data}; leave it out, or give --data")


def trainings_of(led: list[Run]) -> list["Training"]:
    """The training runs among those that led to the evaluations, with what is readable of their logs."""
    from stmn.evaluation.report import Training, bare, log_rows

    found = [(run, rows) for run in led if (rows := log_rows(run.path / "metrics.jsonl"))]
    names = [(run.record.get("stage") or bare(run.name), run.name) for run, _ in found]
    return [
        Training(text, run.record["fingerprint"], rows)
        for text, (run, rows) in zip(distinct(names), found, strict=True)
    ]


def step_of(run: Run, root: Path) -> "Step":
    """A run for the record."""
    from stmn.evaluation.report import Step

    record = run.record
    options = {name: value for name, value in record.get("options", {}).items() if value not in (None, [], {})}
    return Step(
        label=record.get("stage") or "",
        verb=record.get("verb", "?"),
        name=run.name,
        fingerprint=record.get("fingerprint", ""),
        finished=record.get("finished"),
        seconds=record.get("seconds"),
        options={name: told(value, root) for name, value in options.items()},
        versions=record.get("versions") or ({"stmn": record["stmn"]} if "stmn" in record else {}),
    )


def told(value: Any, root: Path) -> str:
    """An option's value as text; paths are cut to what someone on another machine can use."""
    if isinstance(value, list):
        return ", ".join(told(item, root) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} = {told(item, root)}" for key, item in value.items())
    if not isinstance(value, str):
        return json.dumps(value)
    for folder in (root, root.resolve()):
        if Path(value).is_relative_to(folder):
            return str(Path(value).relative_to(folder))
    return f".../{short_path(value)}" if Path(value).is_absolute() else value
