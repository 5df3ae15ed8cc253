"""evaluate: score the videos of a split, fully convolutional in space and time, and measure (section 4.2)."""

from pathlib import Path
from typing import TYPE_CHECKING

from stmn.options.evaluate import EvaluateOptions
from stmn.runtime.files import write_json
from stmn.stages.base import Context, Result, Stage, fill_newest
from stmn.stages.score_model import score_model
from stmn.workspace import Input, Workspace

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores
    from stmn.store.format.read import Store


class Evaluate(Stage[EvaluateOptions]):
    """Writes `scores.safetensors` and `metrics.json`; for all splits `metrics.json` alone."""

    options = EvaluateOptions
    makes = ("scores", "splits")
    shared = True

    def complete(
        self, options: EvaluateOptions, workspace: Workspace, inputs: dict[str, list[Input]]
    ) -> EvaluateOptions:
        """Fill in the newest model of the data set and split."""
        if options.late_fusion or "late_fusion" in inputs:
            return options
        split = {} if options.split == "all" else {"split": options.split}
        return fill_newest(options, "model", workspace, inputs, **split)

    def label(self, options: EvaluateOptions) -> str:
        """`test`, `test-late-fusion`, `validation`, ..."""
        return f"{options.part}-late-fusion" if options.late_fusion else options.part

    def check(self, options: EvaluateOptions, context: Context) -> None:
        """Refuse a device that is not here."""
        from stmn.runtime.device import choose_device

        choose_device(context.device, options.precision)

    def run(self, options: EvaluateOptions, context: Context) -> Result:
        """Score and measure."""
        if options.split == "all":
            from stmn.stages.all_splits import evaluate_all_splits

            return evaluate_all_splits(options, context)
        from stmn.evaluation.baseline import measure_box_shape_baseline
        from stmn.evaluation.metrics import describe_accuracy, measure
        from stmn.evaluation.scores import fuse_late
        from stmn.store.format.read import Store

        given = context.inputs.get("late_fusion") or context.inputs["model"]
        names, labels = [item.name for item in given], [item.label for item in given]
        with Store(context.data) as store:
            parts = [_scores_of(item.path, item.label, options, store, context) for item in given]
            scores = fuse_late(parts, options.weights, labels) if len(parts) > 1 else parts[0]
            results = measure(scores) | {"protocol": scores.protocol, "of": names}
            if not context.ranks.first:
                return Result({})
            if options.part == "test":
                results["box_shape_baseline"] = measure_box_shape_baseline(store, options.split, options.seed)
        scores.save(context.out / "scores.safetensors")
        write_json(context.out / "metrics.json", results)
        context.progress.say(f"{' + '.join(labels)}: {describe_accuracy(results)}")
        for note in results["notes"]:
            context.progress.say(note)
        return Result({"scores": "scores.safetensors", "metrics": "metrics.json"}, results)


def _scores_of(path: Path, name: str, options: EvaluateOptions, store: "Store", context: Context) -> "Scores":
    """A file's scores: read if it holds scores, computed if it is a model."""
    from stmn.nets.tensor_files import read_metadata

    if "scores" in read_metadata(path):
        from stmn.evaluation.scores import load_scores

        return load_scores(path)
    return score_model(path, name, options, store, context)
