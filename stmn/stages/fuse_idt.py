"""fuse-idt: average a network's scores with those of SVMs on improved dense trajectories (section 5.4)."""

from typing import TYPE_CHECKING, Any

from stmn.errors import DataError, count_of
from stmn.options.evaluate import EvaluateOptions
from stmn.options.fuse_idt import FuseIdtOptions
from stmn.options.idt import IdtScoreOptions
from stmn.runtime.files import write_json
from stmn.stages.base import Context, Result, Stage, fill_newest
from stmn.stages.idt_lists import select_videos
from stmn.stages.idt_source import check_options, find_source, list_videos
from stmn.stages.idt_steps import describe_steps, run_step
from stmn.stages.sources import describe_changes, fill_source, find_inputs
from stmn.workspace import Input, Workspace, as_input

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores
    from stmn.store.format.read import Store


class FuseIdt(Stage[FuseIdtOptions]):
    """Writes `idt_scores.safetensors` (unless given), `scores.safetensors` and `metrics.json`."""

    options = FuseIdtOptions
    makes = ("scores",)
    format = 3

    def check_options(self, options: FuseIdtOptions) -> None:
        """Refuse options that contradict each other."""
        if options.features == "idt" and options.idt_scores is None:
            check_options(options)

    def complete(self, options: FuseIdtOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> FuseIdtOptions:
        """Fill in the newest evaluation, and its data set and split."""
        if "idt_scores" not in inputs:
            self.check_options(options)
        if options.model or "model" in inputs:
            return _fill_model(options, workspace, inputs)
        match = {"split": options.split} if options.split else {}
        options = fill_newest(options, "scores", workspace, inputs, **match)
        given = [item for name in ("scores", "idt_scores") for item in find_inputs(options, name, workspace, inputs)]
        return fill_source(options, given, workspace)

    def label(self, options: FuseIdtOptions) -> str:
        """`fused-idt`."""
        return "fused-idt"

    def plugins(self, options: FuseIdtOptions) -> list[dict[str, str]]:
        """The plugins and formats that the trajectories depend on."""
        return describe_steps(options) if options.features == "idt" and options.idt_scores is None else []

    def check(self, options: FuseIdtOptions, context: Context) -> None:
        """Refuse scores of other videos, and lists that leave no training video."""
        from stmn.evaluation.scores import load_scores
        from stmn.store.format.read import Store

        given = [item for name in ("scores", "idt_scores") for item in context.inputs.get(name, [])]
        parts, names = [load_scores(item.path) for item in given], [item.label for item in given]
        with Store(context.data) as store:
            for line in describe_changes(parts, names, store):
                context.progress.say(line)
            if context.input("scores"):
                _check_network(parts[0], names[0])
            if context.input("idt_scores"):
                return
            select_videos(str(options.split), store, parts[0] if parts else None)
            if options.features == "idt":
                list_videos(options, find_source(options, context.data), store)

    def run(self, options: FuseIdtOptions, context: Context) -> Result:
        """Fuse and measure."""
        from stmn.evaluation.agreement import align_scores
        from stmn.evaluation.kinds import FEATURE_WORDS, find_features
        from stmn.evaluation.metrics import measure
        from stmn.evaluation.scores import Scores, load_scores, weight_streams
        from stmn.store.format.read import Store

        item, given = _network_scores(options, context), context.input("idt_scores")
        network = load_scores(item.path)
        if given:
            svm = load_scores(given.path)
        else:
            with Store(context.data) as store:
                svm = (_score_grid if options.features == "grid" else _score_idt)(
                    network, item, options, store, context
                )
            svm.save(context.out / "idt_scores.safetensors")
        rows = align_scores(network, svm, given.label if given else "SVM scores", item.label)
        left_out = ("average", "stream_weights", "stream_weights_chosen_on")  # they apply only to the network
        about = {key: value for key, value in network.protocol.items() if key not in left_out}
        about |= {"idt": svm.protocol, "idt_weights": options.weights}
        features = find_features(about) or "given"
        second = "idt" if features == "idt" else "svm"
        streams = _normalise(network, rows, options)
        named = {"network": streams[0], second: streams[1]}
        fused = Scores(network.ids, network.classes, network.labels, named, about, network.groups, network.hashes)
        fused = weight_streams(fused, options.weights)
        fused.save(context.out / "scores.safetensors")
        results = measure(fused) | {"protocol": fused.protocol, "of": [item.name, FEATURE_WORDS[features]]}
        results["paired"] = _compare(network, rows, fused, second)
        write_json(context.out / "metrics.json", results)
        for line in _describe(results, FEATURE_WORDS[features]):
            context.progress.say(line)
        outputs = {"scores": "scores.safetensors", "metrics": "metrics.json"}
        return Result(outputs | ({} if given else {"idt_scores": "idt_scores.safetensors"}), results)


def _fill_model(options: FuseIdtOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> FuseIdtOptions:
    """Fill in the data set and split of a model. Raises `DataError` if it fits no set."""
    from stmn.stages.evaluate import Evaluate

    [item] = find_inputs(options, "model", workspace, inputs)
    test = Evaluate().complete(_test_of(options, item), workspace, {"model": [item]})
    return options.with_defaults(split=test.split, data=workspace.find_data(options.data).name)


def _check_network(scores: "Scores", name: str) -> None:
    """Refuse scores that already include SVMs. Raises `DataError`."""
    from stmn.evaluation.kinds import find_features

    if "features" in scores.protocol or find_features(scores.protocol):
        raise DataError(
            f"{name}: holds scores of SVMs already; name those of a network alone, made with: stmn evaluate"
        )


def _test_of(options: FuseIdtOptions, item: Input) -> EvaluateOptions:
    """The options that test a model."""
    return EvaluateOptions(model=item.name, data=options.data, split=options.split, seed=options.seed)


def _network_scores(options: FuseIdtOptions, context: Context) -> Input:
    """The network's scores; a model is tested now, unless its scores are up to date."""
    if item := context.input("scores"):
        return item
    item = context.inputs["model"][0]
    return as_input(context.run_stage(_test_of(options, item)), "scores")


def _score_idt(network: "Scores", item: Input, options: FuseIdtOptions, store: "Store", context: Context) -> "Scores":
    """The scores of SVMs on improved dense trajectories, for the videos that the network's scores are of."""
    from stmn.evaluation.scores import load_scores

    tested = {video.id for video in store.part(str(options.split), "test")}
    of_test = network.protocol.get("part", "test") == "test" and set(network.ids) <= tested
    changes = {"scores": None if of_test else item.name}  # scores of the whole test list suit any network
    run = run_step(IdtScoreOptions, options, context, **changes)
    scores = load_scores(run.output("scores"))
    row_of = {video_id: row for row, video_id in enumerate(scores.ids)}
    missing = [video_id for video_id in network.ids if video_id not in row_of]
    if missing:
        raise DataError(
            f"{run.path}: no trajectories of {count_of(len(missing), 'video')} of {item.label}, which could not be "
            f"read; the first is {missing[0]!r}"
        )
    return scores.take([row_of[video_id] for video_id in network.ids])


def _score_grid(network: "Scores", item: Input, options: FuseIdtOptions, store: "Store", context: Context) -> "Scores":
    """The scores of SVMs on histograms over a grid, for the videos that the network's scores are of."""
    from stmn.evaluation.scores import Scores
    from stmn.idt.grid import describe_video
    from stmn.idt.svm import score_with_svm

    classes, split = store.header.classes, str(options.split)
    lists = select_videos(split, store, network)
    train, test = lists.train, lists.scored
    if lists.left_out:
        context.progress.say(
            f"SVMs learn from {count_of(len(train), 'training video')}; {lists.left_out} others are scored, or of "
            "scored groups"
        )
    with context.progress.task("HOG, HOF, MBH", len(train) + len(test), "videos") as task:
        rows = []
        for video in [*train, *test]:
            rows.append(describe_video(store, video))
            task.advance()
    labels = [classes.index(video.class_name) for video in train]
    scores = score_with_svm(
        lambda number: rows[number], labels, lambda number: rows[len(train) + number], len(test), len(classes),
        options.penalty,
    )  # fmt: skip
    about = {
        "words": "linear SVMs on HOG, HOF and MBH histograms over a grid",
        "features": "grid",
        "data": store.header.name,
        "data_fingerprint": store.fingerprint,
        "split": split,
        "part": lists.part,
        "training_videos": len(train),
        "penalty": options.penalty,
    }
    labels, hashes = [classes.index(video.class_name) for video in test], [video.source_hash for video in test]
    return Scores(network.ids, classes, labels, {"svm": scores}, about, network.groups, hashes)


def _normalise(network: "Scores", svm: "Scores", options: FuseIdtOptions) -> "tuple[Any, Any]":
    """The scores of both, each video's scaled to L2 norm 1 unless that is switched off."""
    from torch.nn.functional import normalize

    scores, others = network.mean(), svm.mean()
    if network.average == "softmax":  # logarithms of probabilities: their norm would be that of the least likely
        scores = scores.exp()
    return (
        normalize(scores) if options.normalise_network else scores,
        normalize(others) if options.normalise_idt else others,
    )


def _compare(network: "Scores", svm: "Scores", fused: "Scores", second: str) -> dict[str, Any]:
    """Compare the fused scores with each part video by video: videos that only one has correct, and a paired test."""
    from stmn.evaluation.comparison import compare_scores

    found = {}
    for name, alone in (("network", network), (second, svm)):
        pair = compare_scores(alone, fused, "the fusion")
        found[name] = {
            "difference": pair.difference,
            "interval": pair.interval,
            "alone_correct": pair.first_alone,
            "both_correct": pair.second_alone,
            "p_value": pair.p_value,
            "test": pair.test,
            "test_limit": pair.test_limit,
        }
    return found


def _describe(results: dict[str, Any], words: str) -> "list[str]":
    """The table of network, SVMs and both, and notes on its limits."""
    from stmn.evaluation.metrics import describe_accuracy

    lines = []
    for name, accuracy in results["streams"].items():
        low, high = results["stream_intervals"][name]
        label = "network" if name == "network" else words
        lines.append(f"{label:<14} {100 * accuracy:.1f} % [{100 * low:.1f}, {100 * high:.1f}]")
    lines.append(f"{'both':<14} {describe_accuracy(results)}")
    for name, pair in results["paired"].items():
        label = "network" if name == "network" else words
        lines.append(
            f"both against {label}: correct where it is wrong {pair['both_correct']}, wrong where it is correct "
            f"{pair['alone_correct']}; p = {pair['p_value']:.2g} ({pair['test']})"
        )
    return [*lines, *results["notes"]]
