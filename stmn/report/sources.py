"""Where a report's and a comparison's numbers come from: evaluations, the runs that led to them, what to call them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn.workspace import Input, Run, read_run

if TYPE_CHECKING:
    from stmn.report.contents import AllSplits, Evaluation, Step, Training
    from stmn.report.paper import Networks

#: stages whose runs are evaluations
EVALUATING = ("evaluate", "fuse-idt")
#: options of `fuse` that say which row of the paper's tables it is
GATES = ("fusion", "site", "direction", "gated_units", "injector", "temporal_init", "temporal_pool")


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
        splits = run.results.get("splits", {}).values()  # of all splits: the other splits' models, by their names
        found += [self.by_name.get(name) for part in splits for name in part.get("of", [])]
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


def newest_evaluations(chain: Chain, data: str, split: str) -> list[Run]:
    """The newest finished evaluation on test videos of each distinct model (or fusion of models).

    In the paper's order: appearance, motion, late fusion, gated networks, with IDT; equals oldest first.
    """
    found: dict[str, Run] = {}
    for run in chain.runs:  # newest first
        options = run.record.get("options", {})
        tests = run.record.get("verb") in EVALUATING and options.get("part", "test") == "test"
        of_data = (run.record.get("data", {}).get("name"), options.get("split")) == (data, split)
        if tests and of_data and run.makes("scores_or_splits"):
            what = [run.record["verb"], chain.models(run), options.get("weights")]
            found.setdefault(json.dumps(what), run)
    oldest_first = list(found.values())[::-1]
    return sorted(oldest_first, key=lambda run: place(run, chain))


def place(run: Run, chain: Chain) -> int:
    """Where an evaluation stands among others."""
    if run.record["verb"] == "fuse-idt":
        return 4
    if run.record["options"].get("late_fusion"):
        return 2
    modalities = [cause.record.get("options", {}).get("modality") for cause in chain.causes(run)]
    return {"rgb": 0, "flow": 1}.get(modalities[0] or "", 3) if modalities else 3


def unfinished(chain: Chain, data: str, split: str) -> Run | None:
    """The newest evaluation that began and did not end well."""
    for run in sorted(chain.runs, key=lambda run: run.record.get("started", 0), reverse=True):
        options = run.record.get("options", {})
        of_data = (run.record.get("data", {}).get("name"), options.get("split")) == (data, split)
        if run.record.get("verb") in EVALUATING and of_data and not run.done:
            return run
    return None


def recipes_of(runs: Iterable[Run]) -> list[str]:
    """The recipes that runs were made by, each once."""
    return list(dict.fromkeys(recipe for run in runs if (recipe := run.record.get("recipe"))))


def run_of(item: Input) -> Run | None:
    """The run whose scores (or numbers of all splits) a file holds, or None for a file that lies elsewhere."""
    run = read_run(item.path.parent)
    outputs = run.record.get("outputs", {}) if run else {}
    return run if item.path.name in (outputs.get("scores"), outputs.get("splits")) else None


def evaluations_of(given: list[Input], chain: Chain) -> list["Evaluation"]:
    """Scores and numbers of each input, with labels that tell them apart.

    A file that is no run's is measured here.
    """
    from stmn.evaluation.metrics import measure
    from stmn.evaluation.scores import load_scores
    from stmn.report.contents import Evaluation

    scores = [load_scores(item.path) for item in given]
    runs = [run_of(item) or Run(item.path.parent) for item in given]
    metrics = [measure(s) | metrics_of(run) | {"protocol": s.protocol} for run, s in zip(runs, scores, strict=True)]
    names = [names_of(run, short_path(item.name), chain) for run, item in zip(runs, given, strict=True)]
    return [
        Evaluation(
            label=text,
            scores=part,
            metrics=numbers,
            fingerprint=item.fingerprint,
            name=short_path(item.name),
            tested=tuple(cause.record["fingerprint"] for cause in chain.causes(run)),
            networks=networks_of(run, chain),
        )
        for text, part, numbers, item, run in zip(distinct(names), scores, metrics, given, runs, strict=True)
    ]


def all_splits_of(given: list[Input], chain: Chain) -> list["AllSplits"]:
    """Evaluations of all splits. Raises `DataError` when one's numbers are missing or damaged."""
    from stmn.errors import DataError
    from stmn.report.contents import AllSplits

    found = []
    runs = [read_run(item.path.parent) or Run(item.path.parent) for item in given]
    tested = [[part["of"] for part in run.results.get("splits", {}).values()] for run in runs]
    parts = [of[0] if of else [run.name] for of, run in zip(tested, runs, strict=True)]
    names = [names_of(run, run.name, chain, of) for run, of in zip(runs, parts, strict=True)]
    for item, run, of, text in zip(given, runs, parts, distinct(names), strict=True):
        metrics = metrics_of(run)
        if not metrics.get("splits"):
            raise DataError(f"{item.path}: missing or damaged; make it again with: stmn evaluate --split all --force")
        models = [chain.by_name[name] for name in of if name in chain.by_name]
        verbs = {(model.record["verb"], model.record["options"].get("modality")) for model in models}
        role, networks = role_of_models(verbs), networks_of(run, chain)
        found.append(AllSplits(text, metrics, item.fingerprint, run.name, role, networks))
    return found


def role_of_models(verbs: set[tuple[str, str | None]]) -> Any:
    """What an evaluation is of, by the verbs that made its models and their modalities."""
    roles: dict[frozenset[tuple[str, str | None]], str] = {
        frozenset({("train-stream", "rgb")}): "appearance",
        frozenset({("train-stream", "flow")}): "motion",
        frozenset({("train-stream", "rgb"), ("train-stream", "flow")}): "late_fusion",
    }
    return "fused" if {verb for verb, _ in verbs} == {"fuse"} else roles.get(frozenset(verbs), "other")


def networks_of(run: Run, chain: Chain) -> "Networks":
    """The streams and gates behind an evaluation, as far as runs of this workspace tell."""
    from stmn.report.paper import Networks

    streams: dict[str, str] = {}
    gates = None
    for cause in chain.upstream([run]):
        options = cause.record.get("options", {})
        if cause.record.get("verb") == "train-stream" and options.get("width", 1.0) == 1.0:
            streams[options.get("modality")] = options.get("arch")
        if cause.record.get("verb") == "fuse":
            gates = {name: options.get(name) for name in GATES}
    return Networks(streams.get("rgb"), streams.get("flow"), gates)


def metrics_of(run: Run) -> dict[str, Any]:
    """What a run measured, or nothing when its metrics file is missing or damaged."""
    try:
        return json.loads((run.path / run.record["outputs"]["metrics"]).read_text())
    except (OSError, ValueError, KeyError):
        return {}


def names_of(run: Run, name: str, chain: Chain, of: Sequence[str] = ()) -> tuple[str, str, str]:
    """What to call an evaluation, from short to certainly distinct: "fused-multiply", ... .

    `of` names what it tested, where its results don't.
    """
    from stmn.report.words import bare

    stage = run.record.get("stage")
    if stage:  # what the recipe calls it
        return stage, f"{stage} ({name})", f"{stage} ({name})"
    models = [short_path(text) for part in run.results.get("of") or of or [name] for text in parts_of(part, chain)]
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


def trainings_of(led: list[Run]) -> list["Training"]:
    """The training runs among those that led to the evaluations, with what is readable of their logs."""
    from stmn.report.contents import Training, log_rows
    from stmn.report.words import bare

    found = [(run, rows) for run in led if (rows := log_rows(run.path / "metrics.jsonl"))]
    names = [(run.record.get("stage") or bare(run.name), run.name) for run, _ in found]
    return [
        Training(text, run.record["fingerprint"], rows)
        for text, (run, rows) in zip(distinct(names), found, strict=True)
    ]


def step_of(run: Run, root: Path) -> "Step":
    """A run for the record."""
    from stmn.report.contents import Step

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
