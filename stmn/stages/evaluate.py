"""evaluate: score the test videos of a split, fully convolutional in space and time, and measure (section 4.2)."""

from pathlib import Path
from typing import Any

from stmn.errors import DataError, UsageError
from stmn.files import write_json
from stmn.stages.execute import Context, Made, with_newest
from stmn.stages.options import Trained, option
from stmn.workspace import Workspace


class Options(Trained):
    """Options of `stmn evaluate`."""

    model: str | None = option(None, "model to test (default: the workspace's newest)", input="model")
    late_fusion: list[str] | None = option(
        None, "average the scores of these models or evaluations instead of testing one model", input="scores_or_model"
    )
    weights: list[float] | None = option(None, "weights of --late-fusion, in its order (default: equal)")
    fully_conv: bool = option(True, "whole frames; otherwise the centre crop")
    frames: int = option(25, "chunks of a video, spread evenly", ge=1)
    flips: bool = option(True, "test mirrored videos too, where the data set allows it")
    seen: bool = option(False, "allow testing on videos that the model was trained on")


def complete(options: Options, workspace: Workspace, inputs: dict[str, Any]) -> Options:
    """Fill in the workspace's newest model."""
    if options.late_fusion or "late_fusion" in inputs:
        if options.model or "model" in inputs:
            raise UsageError("evaluate: give a model or late_fusion, not both")
        return options
    if options.weights:
        raise UsageError("evaluate: weights go with late_fusion")
    return with_newest(options, "model", workspace, inputs)


def label(options: Options) -> str:
    """`test` or `test-late-fusion`."""
    return "test-late-fusion" if options.late_fusion else "test"


def plugins(options: Options) -> list[dict[str, str]]:
    """None of its own; the model names what it needs."""
    return []


def run(options: Options, context: Context) -> Made:
    """Write `scores.safetensors` and `metrics.json`."""
    from stmn.evaluation.baseline import box_shape_baseline
    from stmn.evaluation.metrics import measure, words
    from stmn.evaluation.scores import fuse_late
    from stmn.store.reader import Store

    with Store(context.data) as store:
        given = context.inputs.get("late_fusion") or context.inputs["model"]
        parts = [scores_of(item.path, item.name, options, store, context) for item in given]
        scores = fuse_late(parts, options.weights, [item.name for item in given]) if len(parts) > 1 else parts[0]
        results = measure(scores) | {"protocol": scores.protocol, "of": [item.name for item in given]}
        results["box_shape_baseline"] = box_shape_baseline(store, options.split, options.seed)
    scores.save(context.out / "scores.safetensors")
    write_json(context.out / "metrics.json", results)
    context.progress.say(f"{' + '.join(item.name for item in given)}: {words(results)}")
    return Made(outputs={"scores": "scores.safetensors", "metrics": "metrics.json"}, results=results)


def scores_of(path: Path, name: str, options: Options, store: Any, context: Context) -> Any:
    """A file's scores: read when it holds scores, computed when it is a model."""
    from stmn.nets.checkpoint import read_about

    if "scores" in read_about(path):
        from stmn.evaluation.scores import load_scores

        return load_scores(path)
    return score_model(path, name, options, store, context)


def score_model(path: Path, name: str, options: Options, store: Any, context: Context) -> Any:
    """Score the split's test videos with a model. Raises `DataError` when the model does not fit the data."""
    from stmn.device import choose
    from stmn.evaluation.inference import score_videos
    from stmn.evaluation.protocol import Protocol
    from stmn.evaluation.scores import Scores
    from stmn.nets.checkpoint import load_checkpoint
    from stmn.sampling.augment import test_short_side

    context.progress.say(f"model: {name}")
    network, description = load_checkpoint(path)
    header = store.header
    if description.network.classes != header.classes:
        raise DataError(
            f"{name} knows {len(description.network.classes)} classes "
            f"({', '.join(description.network.classes[:3])}, ...), which are not those of data set {header.name}"
        )
    for key, value in description.preparation:
        if value != (there := getattr(header.preparation, key)) and key != "quality":
            raise DataError(f"{name} was trained on data prepared with {key} = {value}; {header.name} has {there}")
    videos = store.part(options.split, "test")
    seen = {video.id for video in videos} & set(description.trained_on.videos)
    if seen and description.trained_on.data == header.name and not options.seen:
        raise DataError(
            f"{name} was trained on {len(seen)} of the {len(videos)} test videos of split {options.split} "
            f"(it knows split {description.trained_on.split}); --seen tests all the same"
        )
    size = description.network.size
    protocol = Protocol(
        frames=options.frames,
        flips=options.flips and "mirror" in header.keeps,
        spatial="fully_conv" if options.fully_conv else "centre_crop",
        short_side=test_short_side(size, header.keeps),
        crop=size,
        data=header.name,
        split=options.split,
    )
    streams = score_videos(network, store, videos, protocol, choose(context.device), context.progress)
    labels = [header.classes.index(video.class_name) for video in videos]
    about = protocol.model_dump(mode="json") | {"words": str(protocol), "seen_in_training": len(seen)}
    groups = [f"{video.class_name}/{video.group}" if video.group else video.id for video in videos]
    return Scores([video.id for video in videos], header.classes, labels, streams, about, groups)
