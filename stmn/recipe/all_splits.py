"""evaluate on all splits: one model for each, tested on its own, and the mean, as the literature reports it."""

from typing import Any

from stmn.errors import DataError
from stmn.recipe.execute import Context, Made, execute, plan
from stmn.runtime.files import write_json
from stmn.workspace import Run, Workspace, read_run

#: options that differ between the models of one experiment: their split, and the inputs that have it
SPLIT_DEPENDS = ("split", "appearance", "motion")


def run_all_splits(options: Any, context: Context) -> Made:
    """Evaluate every split in its own run and write their mean to `metrics.json`.

    Raises `DataError` when a split has no model that was trained like the one that is given.
    """
    from stmn.evaluation.metrics import mean_of_splits
    from stmn.store.format.header import read_header

    workspace = context.workspace
    given = "late_fusion" if context.inputs.get("late_fusion") else "model"
    runs = [read_run(item.path.parent) for item in context.inputs[given]]
    results: dict[str, Any] = {}
    for split in sorted(read_header(context.data).splits):
        models = [str(sibling(run, split, workspace).path) for run in runs]
        asked = options.model_copy(update={"split": split, given: models if given == "late_fusion" else models[0]})
        results[split] = execute(
            plan("evaluate", asked, workspace), workspace, context.progress, context.device
        ).results
    mean = mean_of_splits(list(results.values()))
    low, high = mean["interval"]
    words = f"mean of {len(results)} splits: {100 * mean['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    if not context.ranks.first:
        return Made({})
    context.progress.say(words)
    shown = ("accuracy", "interval", "videos", "of", "protocol")
    mean |= {"splits": {split: {key: result[key] for key in shown} for split, result in results.items()}}
    write_json(context.out / "metrics.json", mean)
    return Made(outputs={"metrics": "metrics.json", "splits": "metrics.json"}, results=mean)


def sibling(run: Run | None, split: str, workspace: Workspace) -> Run:
    """The newest model that was trained as `run` was, on `split`. Raises `DataError` with the line that makes it."""
    if run is None:
        raise DataError("evaluate on all splits: name runs of this workspace, which know how they were trained")
    if run.record["options"].get("split") == split:
        return run
    for other in workspace.runs():
        if (
            other.makes("model")
            and other.record["verb"] == run.record["verb"]
            and other.record["options"].get("split") == split
            and alike(other, run)
        ):
            return other
    raise DataError(
        f"split {split} has no model that was trained like {run.name}: "
        f"stmn {run.record['verb']} --split {split}, with the same options"
    )


def alike(one: Run, other: Run) -> bool:
    """True when two runs have the same options but for what depends on the split."""
    mine, theirs = (
        {key: value for key, value in run.record["options"].items() if key not in SPLIT_DEPENDS} for run in (one, other)
    )
    return mine == theirs
