"""evaluate on all splits: one model per split, each tested on its own split; folds are joined, others averaged."""

from typing import Any

from stmn.errors import DataError, UsageError, count_of
from stmn.options import options_of
from stmn.options.evaluate import EvaluateOptions
from stmn.runtime.files import write_json
from stmn.stages.base import Context, Result
from stmn.workspace import Run, Workspace, read_run

#: options that differ between the models of one experiment: the split, and inputs that depend on it
_DIFFERS = ("split", "appearance", "motion")
#: results of each split that are recorded with the mean
_KEPT = ("accuracy", "interval", "videos", "of", "protocol")


def evaluate_all_splits(options: EvaluateOptions, context: Context) -> Result:
    """Evaluate every split in a separate run, and write the mean to `metrics.json`.

    If the splits are folds, which test each video once, the scores of all of them are written together.

    Raises:
        DataError: a split has no model that was trained like the given one.
    """
    from stmn.evaluation.metrics import average_splits
    from stmn.evaluation.scores import load_scores
    from stmn.store.format.header import read_header

    given = "late_fusion" if context.inputs.get("late_fusion") else "model"
    runs = [read_run(item.path.parent) for item in context.inputs[given]]
    tested: dict[str, Run] = {}
    header = read_header(context.data)
    for split in header.splits:
        models = [str(_sibling(run, split, context.workspace).path) for run in runs]
        values: dict[str, Any] = {"split": split, given: models if given == "late_fusion" else models[0]}
        if options.stream_weights == "folds":  # they are chosen once all folds are scored
            values["stream_weights"] = None
        tested[split] = context.run_stage(options.model_copy(update=values))
    if not context.ranks.first:
        return Result({})
    results = {split: run.results for split, run in tested.items()}
    about = {"splits": {split: {key: result[key] for key in _KEPT} for split, result in results.items()}}
    if header.has_folds and options.part == "test":
        return _join(options, context, tested, about)
    mean = average_splits([load_scores(run.output("scores")) for run in tested.values()])
    low, high = mean["interval"]
    context.progress.say(
        f"mean of {count_of(len(results), 'split')}: {100 * mean['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    )
    mean |= about
    write_json(context.out / "metrics.json", mean)
    return Result(outputs={"metrics": "metrics.json", "splits": "metrics.json"}, values=mean)


def check_folds(options: EvaluateOptions, context: Context) -> None:
    """Refuse weights that are to be chosen on other folds if there are none. Raises `UsageError`."""
    from stmn.store.format.header import read_header

    header = read_header(context.data)
    if options.stream_weights == "folds" and not (header.has_folds and options.part == "test"):
        what = f"the splits of {header.name}" if options.part == "test" else f"{options.part} parts"
        raise UsageError(
            f"stream_weights = folds needs folds, which test each video once, and {what} are none: give the weights, "
            f"or use stream_weights = validation"
        )


def _join(options: EvaluateOptions, context: Context, tested: dict[str, Run], about: dict[str, Any]) -> Result:
    """Join the scores of disjoint folds, and measure them."""
    from stmn.evaluation.baseline import measure_folds_baseline
    from stmn.evaluation.joining import join_folds
    from stmn.evaluation.metrics import describe_accuracy, measure
    from stmn.evaluation.scores import load_scores
    from stmn.store.format.read import Store

    scores = join_folds(
        [load_scores(run.output("scores")) for run in tested.values()],
        [run.label for run in tested.values()],
        choose_weights=options.stream_weights == "folds",
    )
    of = [name for run in tested.values() for name in run.results["of"]]
    results = measure(scores) | {"protocol": scores.protocol, "of": of, **about}
    if options.part == "test":
        with Store(context.data) as store:
            results["box_shape_baseline"] = measure_folds_baseline(store, list(tested), scores, options.seed)
    scores.save(context.out / "scores.safetensors")
    write_json(context.out / "metrics.json", results)
    context.progress.say(f"{count_of(len(tested), 'fold')} together: {describe_accuracy(results)}")
    for note in results["notes"]:
        context.progress.say(note)
    return Result({"scores": "scores.safetensors", "metrics": "metrics.json"}, results)


def _sibling(run: Run | None, split: str, workspace: Workspace) -> Run:
    """The newest model that was trained as `run` was, on `split`. Raises `DataError` with the command for it."""
    if run is None:
        raise DataError(
            "--split all tests runs of this workspace, whose records say how they were trained; name a run, not a file"
        )
    if run.record["options"].get("split") == split:
        return run
    for other in workspace.runs():
        same_verb = other.makes("model") and other.record["verb"] == run.record["verb"]
        if same_verb and other.record["options"].get("split") == split and _is_alike(other, run):
            return other
    command = workspace.command(run.record["verb"], "--split", split, data=run.record.get("data", {}).get("name"))
    raise DataError(
        f"split {split} has no model that was trained like {run.name}; train it with the same options: {command} ..."
    )


def _is_alike(one: Run, other: Run) -> bool:
    """True if two runs have the same options, except for those that depend on the split."""
    described = options_of(one.record["verb"]).described()

    def compared(run: Run) -> dict[str, Any]:
        """The options to compare, without defaults: records of earlier versions lack newer options."""
        plain = {o.name for o in described.values() if o.added_later and run.record["options"].get(o.name) == o.default}
        return {key: value for key, value in run.record["options"].items() if key not in plain | {*_DIFFERS}}

    return compared(one) == compared(other)
