"""fuse-idt: average a network's scores with an SVM's on hand-crafted features (section 5.4)."""

from typing import TYPE_CHECKING

from stmn.options.fuse_idt import FuseIdtOptions
from stmn.runtime.files import write_json
from stmn.stages.base import Context, Result, Stage, fill_newest
from stmn.workspace import Input, Workspace

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores


class FuseIdt(Stage[FuseIdtOptions]):
    """Writes `idt_scores.safetensors` (unless given), `scores.safetensors` and `metrics.json`."""

    options = FuseIdtOptions
    makes = ("scores",)

    def complete(self, options: FuseIdtOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> FuseIdtOptions:
        """Fill in the newest evaluation."""
        return fill_newest(options, "scores", workspace, inputs)

    def label(self, options: FuseIdtOptions) -> str:
        """`fused-idt`."""
        return "fused-idt"

    def run(self, options: FuseIdtOptions, context: Context) -> Result:
        """Fuse and measure."""
        import torch
        from torch.nn.functional import normalize

        from stmn.evaluation.kinds import FEATURE_WORDS, find_features
        from stmn.evaluation.metrics import describe_accuracy, measure
        from stmn.evaluation.scores import Scores, load_scores

        network = load_scores(context.inputs["scores"][0].path)
        given = context.input("idt_scores")
        svm = load_scores(given.path) if given else _train_svm(network.ids, options, context)
        if given is None:
            svm.save(context.out / "idt_scores.safetensors")
        rows = svm.align(network.ids, network.classes, given.name if given else "SVM scores")
        about = network.protocol | {"idt": svm.protocol, "idt_weights": options.weights}
        features = find_features(about) or "given"
        name = "idt" if features == "idt" else "svm"
        scores = network.mean()
        streams = {
            "network": (normalize(scores) if options.normalise_network else scores) * options.weights[0],
            name: normalize(torch.stack(list(rows.values())).mean(dim=0)) * options.weights[1],
        }
        fused = Scores(network.ids, network.classes, network.labels, streams, about, network.groups)
        fused.save(context.out / "scores.safetensors")
        of = [item.name for item in context.inputs["scores"]] + [FEATURE_WORDS[features]]
        results = measure(fused) | {"protocol": about, "of": of}
        write_json(context.out / "metrics.json", results)
        for name, accuracy in results["streams"].items():
            context.progress.say(f"{name} alone: {100 * accuracy:.1f} %")
        context.progress.say(f"network + {FEATURE_WORDS[features]}: {describe_accuracy(results)}")
        for note in results["notes"]:
            context.progress.say(note)
        outputs = {"scores": "scores.safetensors", "metrics": "metrics.json"}
        return Result(outputs | ({} if given else {"idt_scores": "idt_scores.safetensors"}), results)


def _train_svm(ids: list[str], options: FuseIdtOptions, context: Context) -> "Scores":
    """Train the SVM on the training list and score the videos `ids`."""
    import numpy as np

    from stmn.evaluation.scores import Scores
    from stmn.idt.descriptors import describe_video
    from stmn.idt.svm import score_with_svm
    from stmn.store.format.read import Store

    with Store(context.data) as store:
        classes = store.header.classes
        train, test = store.part(options.split, "train"), [store.video(video_id) for video_id in ids]
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
            "split": options.split,
        }
        return Scores(ids, classes, [classes.index(video.class_name) for video in test], {"svm": scores}, about)
