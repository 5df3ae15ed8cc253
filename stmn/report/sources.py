"""Read the runs of a workspace: which runs led to which, which evaluations to report, and their labels."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stmn.errors import DataError
from stmn.options import options_of
from stmn.options.base import StageOptions
from stmn.report.paper import NetworkSummary, Role
from stmn.report.words import shorten_path, strip_fingerprint
from stmn.runtime.files import read_regular
from stmn.runtime.json_files import parse_json, read_json
from stmn.runtime.notices import notice
from stmn.workspace import Input, Run, read_run

#: stages whose runs are evaluations
_EVALUATIONS = ("evaluate", "idt-score", "fuse-idt")
#: options of `fuse` that decide a network's row in the paper's tables
_GATE_OPTIONS = ("fusion", "site", "direction", "gated_units", "injector", "temporal_init", "temporal_pool", "blank")
#: (stage, modality) of every model that was tested -> the kind of result
_ROLES: dict[frozenset[tuple[str, str | None]], Role] = {
    frozenset({("train-stream", "rgb")}): "appearance",
    frozenset({("train-stream", "flow")}): "motion",
    frozenset({("train-stream", "rgb"), ("train-stream", "flow")}): "late_fusion",
}


#: a training's log, and the columns of it that are drawn
_LOG, _CURVES = "metrics.jsonl", ("step", "loss", "accuracy")


class RunGraph:
    """The runs of a workspace, and which of them read the outputs of which.

    Args:
        runs: all runs, newest first, as `Workspace.runs` yields them.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = list(runs)
        self._by_name = {run.name: run for run in self.runs}
        self._by_fingerprint: dict[str, Run] = {}
        self._by_file: dict[tuple[str, ...], Run] = {}
        for run in self.runs:
            self._by_fingerprint.setdefault(run.record.get("fingerprint", ""), run)
            for file in run.record.get("outputs", {}).values():
                self._by_file[(run.name, file)] = run

    def find_run(self, name: str) -> Run | None:
        """The run with a name, or the run that made the file at a path, or None."""
        return self._by_name.get(name) or self._by_file.get(Path(name).parts[-2:])

    def find_causes(self, run: Run) -> list[Run]:
        """The runs whose outputs a run read, if they are in this workspace."""
        read = [fingerprint for inputs in run.record.get("inputs", {}).values() for fingerprint in inputs]
        # a model given as a file has the file's fingerprint; its run is found by its path
        named = [name for name in run.results.get("of", []) if len(Path(name).parts) > 1]
        splits = run.results.get("splits", {}).values()  # an evaluation of all splits names the other splits' models
        named += [name for split in splits for name in split.get("of", [])]
        found = [self._by_fingerprint.get(i) for i in read] + [self.find_run(name) for name in named]
        return [cause for cause in found if cause]

    def find_upstream(self, starts: Iterable[Run]) -> list[Run]:
        """`starts` and all runs that led to them, each once, causes before effects."""
        order: dict[Path, Run] = {}
        visited: set[Path] = set()

        def visit(run: Run) -> None:
            if run.path in visited:
                return
            visited.add(run.path)
            for cause in self.find_causes(run):
                visit(cause)
            order[run.path] = run

        for start in starts:
            visit(start)
        return list(order.values())

    def list_models(self, run: Run) -> list[str]:
        """Fingerprints of the models and files that an evaluation tested, including those of evaluations it fused."""
        found: list[str] = []
        for inputs in run.record.get("inputs", {}).values():
            for fingerprint in inputs:
                cause = self._by_fingerprint.get(fingerprint)
                found += self.list_models(cause) if cause and _is_evaluation(cause) else [fingerprint]
        return found


def find_newest_evaluations(graph: RunGraph, data: str, split: str) -> list[Run]:
    """The newest finished evaluation on test videos for each model or late fusion and each way of testing it.

    Args:
        graph: the workspace's runs.
        data: name of the data set.
        split: split, or "all" for evaluations of all splits.

    Returns:
        Evaluations in the paper's order: appearance, motion, late fusion, gated networks, with IDT. Within each kind
        those with default options come last; otherwise the oldest comes first.
    """
    found: dict[str, Run] = {}
    for run in graph.runs:  # newest first
        tests = run.record.get("options", {}).get("part", "test") == "test"
        if tests and _evaluates(run, data, split) and run.makes("scores", "splits"):
            key = [run.record["verb"], graph.list_models(run), sorted(_list_settings(run).items())]
            found.setdefault(json.dumps(key), run)
    oldest_first = list(found.values())[::-1]
    # pages discuss the last of a kind, so tests with default options go last
    return sorted(oldest_first, key=lambda run: (_rank(run, graph), not _list_settings(run)))


def find_rows(graph: RunGraph, evaluation: Run) -> tuple[Run, list[Run]] | None:
    """The newest table of methods that has an evaluation in it, and the first evaluation of each of its rows.

    None if there is no such table, or if evaluations that it read are gone.
    """
    for table in graph.runs:
        if table.done and table.record.get("verb") == "table":
            causes, names = graph.find_causes(table), table.record["options"].get("rows") or []
            if len(causes) == len(names) and any(one.path == evaluation.path for one in causes):
                return table, list(dict(zip(reversed(names), reversed(causes), strict=True)).values())[::-1]
    return None


def find_unfinished(graph: RunGraph, data: str, split: str) -> Run | None:
    """The most recently started evaluation of a data set and split that is not finished, or None."""
    newest_first = sorted(graph.runs, key=lambda run: run.record.get("started", 0), reverse=True)
    return next((run for run in newest_first if _evaluates(run, data, split) and not run.done), None)


def find_run(item: Input) -> Run | None:
    """The run that wrote a scores file (or the metrics of all splits), or None for a file from elsewhere."""
    run = read_run(item.path.parent)
    outputs = run.record.get("outputs", {}) if run else {}
    return run if item.path.name in (outputs.get("scores"), outputs.get("splits")) else None


def find_networks(run: Run, graph: RunGraph) -> NetworkSummary:
    """The streams and gates that an evaluation tested, as far as this workspace's runs show."""
    archs: dict[str, str] = {}
    gates = None
    for cause in graph.find_upstream([run]):
        options = cause.record.get("options", {})
        if cause.record.get("verb") == "train-stream" and options.get("width", 1.0) == 1.0:
            archs[options.get("modality")] = options.get("arch")
        if cause.record.get("verb") == "fuse":
            gates = {name: options.get(name) for name in _GATE_OPTIONS}
    return NetworkSummary(archs.get("rgb"), archs.get("flow"), gates)


def find_models_role(models: Iterable[Run]) -> Role:
    """The kind of result that an evaluation of these models is."""
    made_by = {(model.record["verb"], model.record["options"].get("modality")) for model in models}
    return "fused" if {verb for verb, _ in made_by} == {"fuse"} else _ROLES.get(frozenset(made_by), "other")


def list_recipes(runs: Iterable[Run]) -> list[str]:
    """The recipes that made runs, each once."""
    return list(dict.fromkeys(recipe for run in runs if (recipe := run.record.get("recipe"))))


def read_metrics(run: Run) -> dict[str, Any]:
    """A run's metrics. Empty if it has none, or, with a notice, if they are missing or damaged."""
    if "metrics" not in run.record.get("outputs", {}):
        return {}
    try:
        metrics = read_json(run.verified_output("metrics"))
    except DataError as error:
        notice(f"{error}; the page is made without it")
        return {}
    return metrics if isinstance(metrics, dict) else {}


def read_training_log(run: Run) -> list[dict[str, Any]]:
    """The rows of a run's training log; for an unfinished training, up to the first incomplete row.

    Empty if it has none, or, with a notice, if the log has changed since the training wrote it.
    """
    path = run.path / _LOG
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    try:
        if run.record.get("outputs", {}).get("metrics") == _LOG:
            run.verified_output("metrics")
        lines = read_regular(path).splitlines()
    except (DataError, OSError) as error:
        notice(f"{error}; its curves are left out")
        return []
    for line in lines:
        try:
            row = parse_json(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not all(isinstance(row.get(key), int | float) for key in _CURVES):
            break
        rows.append(row)
    return rows


def label_evaluations(
    runs: Sequence[Run], names: Sequence[str], graph: RunGraph, models: Sequence[Sequence[str]] | None = None
) -> list[str]:
    """A label for each evaluation that tells it apart from the others.

    It is the stage's id in the recipe ("test-fused"), or else what was tested ("fused-multiply"). If several would
    share a label, the way of testing, the fingerprint or the full name is added.

    Args:
        runs: one run per evaluation; without a record if the scores don't belong to a run.
        names: the name by which the user gave each.
        graph: the workspace's runs.
        models: names of the models that each tested, if not in the runs' results.
    """
    given = models or [()] * len(runs)
    return _choose_labels(
        [
            _list_labels(run, shorten_path(name), tested, graph)
            for run, name, tested in zip(runs, names, given, strict=True)
        ]
    )


def label_runs(runs: Sequence[Run]) -> list[str]:
    """A label for each run: its stage's id in the recipe, or its name; with the fingerprint only where needed."""
    return _choose_labels([_label_run(run.name, run) for run in runs])


def _list_labels(run: Run, name: str, models: Sequence[str], graph: RunGraph) -> tuple[str, ...]:
    """Possible labels of an evaluation, from the shortest to one that is always unique."""
    if run.record.get("stage"):
        short, long = _label_run(run.name, run)
    else:
        parts = [part for model in run.results.get("of") or models or [name] for part in _list_parts(model, graph)]
        labels = [_label_run(part, graph.find_run(part)) for part in parts]
        short, long = (" + ".join(column) for column in zip(*labels, strict=True))
    how = "".join(f", {words}" for words in _describe_settings(run))
    return short, short + how, long + how, f"{long}{how} ({name})"


def _list_settings(run: Run) -> dict[str, Any]:
    """The options by which an evaluation tests or weights streams, except those at their defaults."""
    model = options_of(run.record["verb"]) if _is_evaluation(run) else StageOptions
    options = {name: value for name, value in run.record.get("options", {}).items() if value is not None}
    given = {model.renamed.get(name, name): value for name, value in options.items()}
    known = [option for option in model.described().values() if option.panel == "Testing" and not option.inputs]
    found = {option.name: given.get(option.name, option.default) for option in known}
    return {o.name: found[o.name] for o in known if found[o.name] not in (None, o.default)}


def _describe_settings(run: Run) -> Iterator[str]:
    """The options of `_list_settings` in a few words each: "stream weights 1:3", "no flips", "ten crop"."""
    for name, value in _list_settings(run).items():
        words = name.replace("_", " ")
        if isinstance(value, bool):
            yield words if value else f"no {words}"
        elif isinstance(value, list):
            yield f"{words} {':'.join(f'{number:g}' for number in value)}"
        else:
            yield f"{value} {words}" if isinstance(value, int) else f"{words} {value}"


def _list_parts(name: str, graph: RunGraph) -> list[str]:
    """The models behind a name in an evaluation's "of": that one or, if it is an evaluation, the models it tested."""
    run = graph.find_run(name)
    if run and _is_evaluation(run):
        return [part for inner in run.results.get("of", []) for part in _list_parts(inner, graph)] or [name]
    return [name]


def _label_run(name: str, run: Run | None) -> tuple[str, str]:
    """Two labels of a run or file: a short one, and one with the run's fingerprint."""
    stage = run.record.get("stage") if run else None
    if run and stage:
        return stage, f"{stage} ({run.name.rsplit('-', 1)[-1]})"
    return strip_fingerprint(name), shorten_path(name)


def _choose_labels(candidates: Sequence[tuple[str, ...]]) -> list[str]:
    """Choose the shortest labels that all differ, each from its own candidates."""
    level = [0] * len(candidates)
    while True:
        labels = [names[i] for names, i in zip(candidates, level, strict=True)]
        shared = [i for i, label in enumerate(labels) if labels.count(label) > 1 and level[i] + 1 < len(candidates[i])]
        if not shared:
            return labels
        for i in shared:
            level[i] += 1


def _is_evaluation(run: Run) -> bool:
    """True for a run of a stage that tests."""
    return run.record.get("verb") in _EVALUATIONS


def _evaluates(run: Run, data: str, split: str) -> bool:
    """True for an evaluation of a data set and split."""
    of = (run.record.get("data", {}).get("name"), run.record.get("options", {}).get("split"))
    return _is_evaluation(run) and of == (data, split)


def _rank(run: Run, graph: RunGraph) -> float:
    """The sort key of an evaluation on a page: appearance first, IDT last."""
    if run.record["verb"] in ("idt-score", "fuse-idt"):
        return 3.5 if run.record["verb"] == "idt-score" else 4
    if run.record["options"].get("late_fusion"):
        return 2
    if run.record["options"].get("join"):
        return min((_rank(fold, graph) for fold in graph.find_causes(run)), default=3)
    modalities = [cause.record.get("options", {}).get("modality") for cause in graph.find_causes(run)]
    return {"rgb": 0, "flow": 1}.get(modalities[0] or "", 3) if modalities else 3
