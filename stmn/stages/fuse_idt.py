"""fuse-idt: average network scores with an SVM's on hand-crafted features (section 5.4)."""

from typing import Any

from stmn.options.base import Trained, option
from stmn.recipe.execute import Context, Made, with_newest
from stmn.runtime.files import write_json
from stmn.workspace import Workspace


class Options(Trained):
    """Options of `stmn fuse-idt`."""

    scores: str | None = option(
        None, "network scores: an evaluation, or a scores file (default: newest)", input="scores"
    )
    idt_scores: str | None = option(
        None,
        "SVM scores file (default: made here, from HOG, HOF and MBH histograms of the stored flow)",
        input="scores",
    )
    weights: list[float] = option([1.0, 1.0], "weights of network and SVM", min_length=2, max_length=2)
    normalise_network: bool = option(True, "L2-normalise each video's network scores too, not the SVM's alone")


def complete(options: Options, workspace: Workspace, inputs: dict[str, Any]) -> Options:
    """Fill in the newest evaluation."""
    return with_newest(options, "scores", workspace, inputs)


def label(options: Options) -> str:
    """`fused-idt`."""
    return "fused-idt"


def plugins(options: Options) -> list[dict[str, str]]:
    """None."""
    return []


def run(options: Options, context: Context) -> Made:
    """Write `idt_scores.safetensors` (unless given), `scores.safetensors` and `metrics.json`."""
    import torch
    from torch.nn.functional import normalize

    from stmn.evaluation.metrics import measure, words
    from stmn.evaluation.scores import Scores, load_scores

    network = load_scores(context.inputs["scores"][0].path)
    given = context.input("idt_scores")
    svm = load_scores(given.path) if given else svm_on_flow(network.ids, options, context)
    if given is None:
        svm.save(context.out / "idt_scores.safetensors")
    rows = svm.rows(network.ids, network.classes, given.name if given else "SVM scores")
    scores = network.mean()
    streams = {
        "network": (normalize(scores) if options.normalise_network else scores) * options.weights[0],
        "idt": normalize(torch.stack(list(rows.values())).mean(dim=0)) * options.weights[1],
    }
    about = network.protocol | {"idt": svm.protocol, "idt_weights": options.weights}
    fused = Scores(network.ids, network.classes, network.labels, streams, about, network.groups)
    fused.save(context.out / "scores.safetensors")
    results = measure(fused) | {"protocol": about, "of": [item.name for item in context.inputs["scores"]] + ["idt"]}
    write_json(context.out / "metrics.json", results)
    for name, stream in results["streams"].items():
        context.progress.say(f"{name} alone: {100 * stream:.1f} %")
    context.progress.say(f"network + idt: {words(results)}")
    outputs = {"scores": "scores.safetensors", "metrics": "metrics.json"}
    return Made(outputs | ({} if given else {"idt_scores": "idt_scores.safetensors"}), results)


def svm_on_flow(ids: list[str], options: Options, context: Context) -> Any:
    """Train the SVM on the training list and score the videos `ids`."""
    import numpy as np

    from stmn.evaluation.scores import Scores
    from stmn.idt.descriptors import describe_video
    from stmn.idt.svm import svm_scores
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
        scores = svm_scores(
            np.stack(rows[: len(train)]), labels, np.stack(rows[len(train) :]), len(classes), options.seed
        )
        about = {"words": "linear SVM on HOG, HOF and MBH histograms over a grid", "split": options.split}
        return Scores(ids, classes, [classes.index(video.class_name) for video in test], {"svm": scores}, about)
