"""idt-score on all splits, each in turn: scores of folds are joined, for other splits accuracies are averaged."""

from stmn.errors import DataError
from stmn.options.idt import IdtScoreOptions
from stmn.runtime.files import write_json
from stmn.stages.base import Context, Result
from stmn.workspace import Run


def score_all_splits(options: IdtScoreOptions, context: Context) -> Result:
    """Score every split in a separate run, and write their scores together if no video is tested twice.

    Raises:
        DataError: scores were given, and those are of one split.
    """
    from stmn.evaluation.metrics import average_splits, describe_accuracy, measure
    from stmn.evaluation.scores import load_scores
    from stmn.store.format.header import read_header

    if options.scores:
        raise DataError("scores are of one split; without --scores all splits can be scored")
    runs: dict[str, Run] = {}
    for split in read_header(context.data).splits:
        runs[split] = context.run_stage(options.model_copy(update={"split": split}))
    parts = [load_scores(run.output("scores")) for run in runs.values()]
    ids = [video_id for part in parts for video_id in part.ids]
    if len(set(ids)) < len(ids):
        mean = average_splits(parts)
        low, high = mean["interval"]
        context.progress.say(
            f"mean of {len(parts)} splits: {100 * mean['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        )
        write_json(context.out / "metrics.json", mean)
        return Result({"metrics": "metrics.json", "splits": "metrics.json"}, mean)
    from stmn.evaluation.baseline import measure_folds_baseline
    from stmn.evaluation.joining import join_folds
    from stmn.store.format.read import Store

    scores = join_folds(parts, [run.name for run in runs.values()])
    results = measure(scores) | {"protocol": scores.protocol, "of": ["IDT"]}
    with Store(context.data) as store:
        results["box_shape_baseline"] = measure_folds_baseline(store, list(runs), scores, options.seed)
    scores.save(context.out / "scores.safetensors")
    write_json(context.out / "metrics.json", results)
    context.progress.say(f"IDT, {len(parts)} folds: {describe_accuracy(results)}")
    if baseline := results["box_shape_baseline"]:
        low, high = baseline["interval"]
        context.progress.say(
            f"box shapes alone: {100 * baseline['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]; chance: "
            f"{100 * results['chance']:.1f} %"
        )
    for note in results["notes"]:
        context.progress.say(note)
    return Result({"scores": "scores.safetensors", "metrics": "metrics.json"}, results)
