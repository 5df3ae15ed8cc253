"""evaluate: score the videos of a split, fully convolutionally in space and time, and measure (section 4.2)."""

from dataclasses import replace
from typing import TYPE_CHECKING

from stmn.errors import DataError, UsageError, count_of
from stmn.options.evaluate import EvaluateOptions
from stmn.runtime.files import write_json
from stmn.stages.all_splits import check_folds
from stmn.stages.base import Context, Result, Stage, fill_newest
from stmn.stages.score_model import find_blank, score_model, select_videos
from stmn.stages.sources import describe_changes, fill_folds, fill_source, find_inputs, holds_scores
from stmn.workspace import Input, Run, Workspace

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores
    from stmn.store.format.read import Store


class Evaluate(Stage[EvaluateOptions]):
    """Writes `scores.safetensors` and `metrics.json`; for all splits, unless they are folds, only `metrics.json`."""

    options = EvaluateOptions
    makes = ("scores", "splits")
    shared = True
    all_splits = True
    format = 4

    def check_options(self, options: EvaluateOptions) -> None:
        """Refuse weights chosen on other folds if there is only one; a sweep over splits chooses them in the join."""
        if options.stream_weights == "folds" and not options.join and options.split != "all":
            raise UsageError("evaluate: stream_weights = folds chooses on other folds: join them, or use split = all")

    def complete(
        self, options: EvaluateOptions, workspace: Workspace, inputs: dict[str, list[Input]]
    ) -> EvaluateOptions:
        """Fill in the newest model of the data set and split, and the data set, split and part of given scores."""
        self.check_options(options)
        if options.join or "join" in inputs:
            return fill_folds(options, find_inputs(options, "join", workspace, inputs), workspace)
        late = bool(options.late_fusion or "late_fusion" in inputs)
        if not late:
            match = {} if options.split == "all" else {"split": options.split or "1"}
            options = fill_newest(options, "model", workspace, inputs, **match)
        given = find_inputs(options, "late_fusion" if late else "model", workspace, inputs)
        scores = [item for item in given if holds_scores(item)]
        if len(scores) < len(given) and scores and options.split == "all":
            raise UsageError(f"{scores[0].label}: scores of one split; with --split all, name models")
        if scores and options.stream_weights == "validation":
            raise UsageError(
                f"{scores[0].label}: has scores of test videos only; to choose weights in validation, name its model"
            )
        if scores and options.stream_weights == "folds":
            raise UsageError(
                f"{scores[0].label}: are scores already; to choose weights on other folds, name models, or fuse each "
                f"fold and join them: --join"
            )
        if scores:
            options = fill_source(options, scores, workspace)
        models = [item for item in given if item not in scores]
        if options.blank:
            _check_blank(models, scores, options)
        if models and scores and options.split == "all":
            raise UsageError(
                f"{scores[0].label}: scores of all splits, which no one model has; test {models[0].label} with --split "
                f"all, and name that"
            )
        if models and not late:
            _check_streams(models[0], options)
        split = options.split or _split_of(models[0], workspace, options.data)
        return options.with_defaults(split=split, part="test")

    def has_more_work(self, options: EvaluateOptions, run: Run) -> bool:
        """True if the run has only a mean of folds, as earlier versions made, and not their joined scores."""
        from stmn.store.format.header import read_header

        if options.split != "all" or options.part != "test" or run.makes("scores") or not run.done:
            return False
        return read_header(Workspace(run.path.parents[1]).find_data(options.data)).has_folds

    def label(self, options: EvaluateOptions) -> str:
        """`test`, `test-late-fusion`, `test-folds`, `validation`, `test-blank-motion`, ..."""
        if options.join:
            return f"{options.part}-folds"
        late = "-late-fusion" if options.late_fusion else ""
        return f"{options.part}{late}-blank-{options.blank}" if options.blank else f"{options.part}{late}"

    def check(self, options: EvaluateOptions, context: Context) -> None:
        """Refuse an unavailable device or precision, models that can't be tested, and scores of other videos."""
        from stmn.evaluation.scores import check_average, load_scores
        from stmn.runtime.device import choose_device
        from stmn.store.format.read import Store

        choose_device(context.device, options.precision)
        given = _given(context)
        if _tests_all_splits(options, given):  # each split is a run of its own
            check_folds(options, context)
            return
        items = [item for item in given if holds_scores(item)]
        with Store(context.data) as store:
            parts, names = [load_scores(item.path) for item in items], [item.label for item in items]
            if not options.join:
                check_average(parts, names, options.average)
            for line in describe_changes(parts, names, store):
                context.progress.say(line)
            for model in (item for item in given if item not in items):
                select_videos(model, options, store)
                if options.stream_weights == "validation":
                    select_videos(model, options.model_copy(update={"part": "validation"}), store)

    def run(self, options: EvaluateOptions, context: Context) -> Result:
        """Score and measure."""
        given = _given(context)
        if _tests_all_splits(options, given):
            from stmn.stages.all_splits import evaluate_all_splits

            return evaluate_all_splits(options, context)
        from stmn.evaluation.baseline import measure_box_shape_baseline, measure_folds_baseline
        from stmn.evaluation.metrics import describe_accuracy, describe_calibration, measure
        from stmn.store.format.read import Store

        names, labels = [item.name for item in given], [item.label for item in given]
        with Store(context.data) as store:
            scores = _score(given, options, store, context)
            results = measure(scores) | {"protocol": scores.protocol, "of": names}
            if not context.ranks.first:
                return Result({})
            if options.part == "test" and options.split == "all":
                folds = scores.protocol.get("folds") or store.header.splits
                results["box_shape_baseline"] = measure_folds_baseline(store, list(folds), scores, options.seed)
            elif options.part == "test":
                results["box_shape_baseline"] = measure_box_shape_baseline(store, str(options.split), options.seed)
        scores.save(context.out / "scores.safetensors")
        write_json(context.out / "metrics.json", results)
        context.progress.say(f"{' + '.join(labels)}: {describe_accuracy(results)}")
        if said := describe_calibration(results, "temperature" in scores.protocol):
            context.progress.say(said)
        for note in results["notes"]:
            context.progress.say(note)
        return Result({"scores": "scores.safetensors", "metrics": "metrics.json"}, results)


def _given(context: Context) -> list[Input]:
    """The inputs that are tested, fused or joined."""
    return next(items for name in ("join", "late_fusion", "model") if (items := context.inputs.get(name)))


def _tests_all_splits(options: EvaluateOptions, given: list[Input]) -> bool:
    """True if one model per split is to be tested; joined scores of all splits are treated like any scores."""
    return options.split == "all" and not holds_scores(given[0])


def _score(given: list[Input], options: EvaluateOptions, store: "Store", context: Context) -> "Scores":
    """The scores of one model, or of the late fusion of several models and scores files."""
    from stmn.evaluation.agreement import list_differences
    from stmn.evaluation.joining import join_folds
    from stmn.evaluation.scores import fuse_late, load_scores, weight_streams

    names = [item.label for item in given]
    if options.join:
        folds = [load_scores(item.path) for item in given]
        return join_folds(folds, names, choose_weights=options.stream_weights == "folds")
    parts = [
        load_scores(item.path) if holds_scores(item) else score_model(item, options, store, context) for item in given
    ]
    for line in list_differences(parts, names):
        context.progress.say(line)
    weights, chosen_on = options.stream_weights, ""
    assert weights != "folds"  # one split has none
    if weights == "validation":
        weights, chosen_on = _choose_weights(given, parts, options, store, context)
    if len(parts) == 1:
        return weight_streams(parts[0], weights, chosen_on) if weights else parts[0]
    fused = fuse_late(parts, weights, names, options.average)
    return weight_streams(fused, weights, chosen_on) if weights and chosen_on else fused


def _choose_weights(
    given: list[Input], tested: list["Scores"], options: EvaluateOptions, store: "Store", context: Context
) -> tuple[list[float], str]:
    """The weights that do best on the videos that training held out, and words for these videos.

    Raises:
        DataError: A model held out none, or the models held out different ones.
    """
    from stmn.evaluation.weights import choose_weights

    context.progress.say("choosing the weights on the validation part")
    held = options.model_copy(update={"part": "validation", "stream_weights": None})
    parts = [_without(score_model(item, held, store, context), tested[0], item.label) for item in given]
    names = [item.label for item in given]
    if len(parts) == 1:
        [whole] = parts
        names = list(whole.streams)
        parts = [replace(whole, streams={name: tensor}) for name, tensor in whole.streams.items()]
    weights = choose_weights(parts, names, options.average)
    words = count_of(len(parts[0].ids), "validation video")
    context.progress.say(f"weights {', '.join(f'{weight:g}' for weight in weights)}, chosen on {words}")
    return weights, words


def _without(held: "Scores", tested: "Scores", name: str) -> "Scores":
    """Scores of held-out videos without those that are also tested. Raises `DataError` if none is left."""
    ids, hashes = set(tested.ids), set(tested.hashes) - {""}
    pairs = zip(held.ids, held.hashes, strict=True)
    rows = [row for row, (video, content) in enumerate(pairs) if video not in ids and content not in hashes]
    if not rows:
        raise DataError(f"{name}: all videos that training held out are test videos: weights can't be chosen on them")
    return held.take(rows)


def _check_blank(models: list[Input], scores: list[Input], options: EvaluateOptions) -> None:
    """Raise `UsageError` if the stream to blank doesn't exist."""
    if scores:
        raise UsageError(f"{scores[0].label}: are scores of what a model saw; to blank {options.blank}, name its model")
    found = [find_blank(model, options) for model in models]
    if not any(found):
        raise UsageError(f"{models[0].label}: has no {options.blank} stream to blank")


def _check_streams(model: Input, options: EvaluateOptions) -> None:
    """Raise `UsageError` if the stream weights don't fit the network's streams."""
    from stmn.nets.checkpoint import read_description

    if options.stream_weights is None:
        return
    network = read_description(model.path).network
    count = len(network.streams) if network.prediction == "per_stream" else 1
    if count < 2:
        raise UsageError(f"{model.label}: makes one prediction: stream_weights need a network that makes two")
    if not isinstance(options.stream_weights, str) and len(options.stream_weights) != count:
        raise UsageError(
            f"{model.label}: has {count} streams, and stream_weights has "
            f"{count_of(len(options.stream_weights), 'weight')}"
        )


def _split_of(model: Input, workspace: Workspace, data: str | None) -> str:
    """The split that a model was trained on, if it is one of this data set, else "1"."""
    from stmn.nets.checkpoint import read_description
    from stmn.store.format.header import read_header

    header, known = read_header(workspace.find_data(data)), read_description(model.path).trained_on
    return known.split if known.data == header.name and known.split in header.splits else "1"
