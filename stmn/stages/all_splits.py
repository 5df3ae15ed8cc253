"""evaluate on all splits: one model per split, tested on its own, and their mean, as the literature reports it."""

from stmn.errors import DataError, count_of
from stmn.options.evaluate import EvaluateOptions
from stmn.runtime.files import write_json
from stmn.stages.base import Context, Result
from stmn.workspace import Run, Workspace, read_run

#: options that differ between the models of one experiment: their split, and the inputs that have it
_DIFFERS = ("split", "appearance", "motion")
#: which of each split's results are recorded with the mean
_KEPT = ("accuracy", "interval", "videos", "of", "protocol")


def evaluate_all_splits(options: EvaluateOptions, context: Context) -> Result:
    """Evaluate every split in a separate run, and write the mean to `metrics.json`.

    Raises:
        DataError: a split has no model that was trained like the given one.
    """
    from stmn.evaluation.metrics import average_splits
    from stmn.evaluation.scores import load_scores
    from stmn.store.format.header import read_header

    given = "late_fusion" if context.inputs.get("late_fusion") else "model"
    runs = [read_run(item.path.parent) for item in context.inputs[given]]
    tested: dict[str, Run] = {}
    for split in read_header(context.data).splits:
        models = [str(_sibling(run, split, context.workspace).path) for run in runs]
        values = {"split": split, given: models if given == "late_fusion" else models[0]}
        tested[split] = context.run_stage(options.model_copy(update=values))
    if not context.ranks.first:
        return Result({})
    results = {split: run.results for split, run in tested.items()}
    mean = average_splits([load_scores(run.output("scores")) for run in tested.values()])
    low, high = mean["interval"]
    context.progress.say(
        f"mean of {count_of(len(results), 'split')}: {100 * mean['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    )
    mean |= {"splits": {split: {key: result[key] for key in _KEPT} for split, result in results.items()}}
    write_json(context.out / "metrics.json", mean)
    return Result(outputs={"metrics": "metrics.json", "splits": "metrics.json"}, values=mean)


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
    first, second = (
        {key: value for key, value in run.record["options"].items() if key not in _DIFFERS} for run in (one, other)
    )
    return first == second
