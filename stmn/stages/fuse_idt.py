"""fuse-idt: average a network's scores with an SVM's on hand-crafted features (section 5.4)."""

from typing import TYPE_CHECKING

from stmn.errors import DataError
from stmn.options.fuse_idt import FuseIdtOptions
from stmn.runtime.files import write_json
from stmn.stages.base import Context, Result, Stage, fill_newest
from stmn.stages.sources import describe_changes, fill_source, find_inputs
from stmn.workspace import Input, Workspace

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores
    from stmn.store.format.read import Store, StoredVideo


class FuseIdt(Stage[FuseIdtOptions]):
    """Writes `idt_scores.safetensors` (unless given), `scores.safetensors` and `metrics.json`."""

    options = FuseIdtOptions
    makes = ("scores",)
    format = 2

    def complete(self, options: FuseIdtOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> FuseIdtOptions:
        """Fill in the newest evaluation, and its data set and split."""
        match = {"split": options.split} if options.split else {}
        options = fill_newest(options, "scores", workspace, inputs, **match)
        given = [item for name in ("scores", "idt_scores") for item in find_inputs(options, name, workspace, inputs)]
        return fill_source(options, given, workspace)

    def label(self, options: FuseIdtOptions) -> str:
        """`fused-idt`."""
        return "fused-idt"

    def check(self, options: FuseIdtOptions, context: Context) -> None:
        """Refuse scores of other videos, and a training list of which nothing is left."""
        from stmn.evaluation.scores import load_scores
        from stmn.store.format.read import Store

        given = [item for name in ("scores", "idt_scores") for item in context.inputs.get(name, [])]
        parts, names = [load_scores(item.path) for item in given], [item.label for item in given]
        with Store(context.data) as store:
            for line in describe_changes(parts, names, store):
                context.progress.say(line)
            if len(parts) == 1:
                _select_training(parts[0], str(options.split), store)

    def run(self, options: FuseIdtOptions, context: Context) -> Result:
        """Fuse and measure."""
        from torch.nn.functional import normalize

        from stmn.evaluation.agreement import align_scores
        from stmn.evaluation.kinds import FEATURE_WORDS, find_features
        from stmn.evaluation.metrics import describe_accuracy, measure
        from stmn.evaluation.scores import Scores, load_scores, weigh_streams

        item, given = context.inputs["scores"][0], context.input("idt_scores")
        network = load_scores(item.path)
        svm = load_scores(given.path) if given else _train_svm(network, options, context)
        if given is None:
            svm.save(context.out / "idt_scores.safetensors")
        rows = align_scores(network, svm, given.label if given else "SVM scores", item.label)
        left_out = ("average", "stream_weights", "stream_weights_chosen_on")  # they are the network's alone
        about = {key: value for key, value in network.protocol.items() if key not in left_out}
        about |= {"idt": svm.protocol, "idt_weights": options.weights}
        features = find_features(about) or "given"
        scores = network.mean()
        if network.average == "softmax":  # logarithms of probabilities: their norm would be that of the least likely
            scores = scores.exp()
        streams = {
            "network": normalize(scores) if options.normalise_network else scores,
            "idt" if features == "idt" else "svm": normalize(rows.mean()),
        }
        fused = Scores(network.ids, network.classes, network.labels, streams, about, network.groups, network.hashes)
        fused = weigh_streams(fused, options.weights)
        fused.save(context.out / "scores.safetensors")
        results = measure(fused) | {"protocol": fused.protocol, "of": [item.name, FEATURE_WORDS[features]]}
        write_json(context.out / "metrics.json", results)
        for name, accuracy in results["streams"].items():
            context.progress.say(f"{name} alone: {100 * accuracy:.1f} %")
        context.progress.say(f"network + {FEATURE_WORDS[features]}: {describe_accuracy(results)}")
        for note in results["notes"]:
            context.progress.say(note)
        outputs = {"scores": "scores.safetensors", "metrics": "metrics.json"}
        return Result(outputs | ({} if given else {"idt_scores": "idt_scores.safetensors"}), results)


def _train_svm(network: "Scores", options: FuseIdtOptions, context: Context) -> "Scores":
    """Train the SVM on videos that the network's scores are not of, and score those that they are of."""
    import numpy as np

    from stmn.evaluation.scores import Scores
    from stmn.idt.descriptors import describe_video
    from stmn.idt.svm import score_with_svm
    from stmn.store.format.read import Store

    with Store(context.data) as store:
        classes, split = store.header.classes, str(options.split)
        train, test = _select_training(network, split, store), [store.video(video_id) for video_id in network.ids]
        left_out = len(store.part(split, "train")) - len(train)
        if left_out:
            context.progress.say(
                f"the SVM learns from {len(train)} training videos; {left_out} others are scored, or of scored groups"
            )
        with context.progress.task("HOG, HOF, MBH", len(train) + len(test), "videos") as task:
            rows = []
            for video in [*train, *test]:
                rows.append(describe_video(store, video))
                task.advance()
        labels = [classes.index(video.class_name) for video in train]
        scores = score_with_svm(
            np.stack(rows[: len(train)]), labels, np.stack(rows[len(train) :]), len(classes), options.seed
        )
        about = {
            "words": "linear SVM on HOG, HOF and MBH histograms over a grid",
            "features": "grid",
            "data": store.header.name,
            "data_fingerprint": store.fingerprint,
            "split": split,
            "part": network.protocol.get("part", "test"),
            "training_videos": len(train),
        }
        labels, hashes = [classes.index(video.class_name) for video in test], [video.source_hash for video in test]
        return Scores(network.ids, classes, labels, {"svm": scores}, about, network.groups, hashes)


def _select_training(scored: "Scores", split: str, store: "Store") -> "list[StoredVideo]":
    """The training videos of a split that scores say nothing of.

    Left out are the scored videos, copies of them under other names and, if scores are of the training list itself
    (those that training held out), all videos of the scored groups.

    Raises:
        DataError: None is left, or those left are of one class.
    """
    scored_ids = set(scored.ids)
    there = [video for video in (store.videos.get(video_id) for video_id in scored.ids) if video]
    hashes = ({video.source_hash for video in there} | set(scored.hashes)) - {""}
    train = store.part(split, "train")
    groups = set() if scored.protocol.get("part", "test") == "test" else {video.group for video in there} - {""}
    left = [
        video
        for video in train
        if video.id not in scored_ids and video.source_hash not in hashes and video.group not in groups
    ]
    if len({video.class_name for video in left}) < 2:
        what = "none" if not left else f"{len(left)}, all of one class, are left"
        raise DataError(
            f"the SVM can't learn from videos that it scores: of the {len(train)} training videos of split {split} "
            f"{what}{' is left' if not left else ''}; fuse scores of test or validation videos, or give --idt-scores"
        )
    return left
