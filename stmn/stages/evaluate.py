"""evaluate: score videos of a split, fully convolutional in space and time, and measure (section 4.2)."""

from pathlib import Path
from typing import Any, Literal

from stmn.errors import DataError, UsageError
from stmn.options.base import Trained, option
from stmn.recipe.execute import Context, Made, with_newest
from stmn.runtime.files import write_json
from stmn.workspace import Workspace

#: under torchrun all processes run this stage together
TOGETHER = True


class Options(Trained):
    """Options of `stmn evaluate`."""

    split: str = option("1", "which split into training and test videos, or all: one model for each, and their mean")
    model: str | None = option(None, "model to test (default: the workspace's newest)", input="model")
    late_fusion: list[str] | None = option(
        None, "average the scores of these models or evaluations instead of testing one model", input="scores_or_model"
    )
    weights: list[float] | None = option(None, "weights of --late-fusion, in its order (default: equal)")
    fully_conv: bool = option(True, "whole frames; otherwise the centre crop")
    ten_crop: bool = option(False, "corners and centre of the training crop's size, and their mirrors")
    centre_crop: bool = option(False, "the centre crop alone, as --no-fully-conv")
    pool: Literal["window", "global"] = option(
        "window", "window: the last map is averaged over windows of the training map's size; global: over all of it"
    )
    temporal_pool: Literal["max", "average", "none"] | None = option(
        None, "pooling over time (default: as the model was trained)"
    )
    temporal_window: int | None = option(
        None, "pool over so many chunks at a time, with --temporal-pool; the authors' code: 5 (default: all)", ge=1
    )
    part: Literal["test", "validation", "train"] = option(
        "test", "which videos of the split; validation: what training held out of the training list"
    )
    frames: int = option(25, "chunks of a video, spread evenly", ge=1)
    flips: bool = option(True, "test mirrored videos too, where the data set allows it")
    seen: bool = option(False, "allow testing on videos that the model was trained on")


def complete(options: Options, workspace: Workspace, inputs: dict[str, Any]) -> Options:
    """Fill in the workspace's newest model. Raises `UsageError` for options that contradict each other."""
    if options.ten_crop and options.centre_crop:
        raise UsageError("evaluate: ten_crop and centre_crop are two protocols: give one of them")
    if options.temporal_window and options.temporal_pool in (None, "none"):
        raise UsageError("evaluate: temporal_window goes with temporal_pool = max or average")
    if options.late_fusion or "late_fusion" in inputs:
        if options.model or "model" in inputs:
            raise UsageError("evaluate: give a model or late_fusion, not both")
        return options
    if options.weights:
        raise UsageError("evaluate: weights go with late_fusion")
    return with_newest(options, "model", workspace, inputs)


def label(options: Options) -> str:
    """`test`, `test-late-fusion`, `validation`, ..."""
    return f"{options.part}-late-fusion" if options.late_fusion else options.part


def plugins(options: Options) -> list[dict[str, str]]:
    """None of its own; the model names what it needs."""
    return []


def run(options: Options, context: Context) -> Made:
    """Write `scores.safetensors` and `metrics.json`; of all splits `metrics.json` alone."""
    if options.split == "all":
        from stmn.recipe.all_splits import run_all_splits

        return run_all_splits(options, context)
    from stmn.evaluation.baseline import box_shape_baseline
    from stmn.evaluation.metrics import measure, words
    from stmn.evaluation.scores import fuse_late
    from stmn.store.format.read import Store

    with Store(context.data) as store:
        given = context.inputs.get("late_fusion") or context.inputs["model"]
        parts = [scores_of(item.path, item.name, options, store, context) for item in given]
        scores = fuse_late(parts, options.weights, [item.name for item in given]) if len(parts) > 1 else parts[0]
        results = measure(scores) | {"protocol": scores.protocol, "of": [item.name for item in given]}
        if not context.ranks.first:
            return Made({})
        if options.part == "test":
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
    """Score the split's videos with a model. Raises `DataError` when the model does not fit the data."""
    from stmn.evaluation.protocol import Protocol
    from stmn.evaluation.scores import Scores
    from stmn.nets.checkpoint import load_checkpoint
    from stmn.sampling.augment import short_side_for_test

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
    videos = chosen_videos(options, store, description, name)
    seen = {video.id for video in videos} & set(description.trained_on.videos)
    if seen and description.trained_on.data == header.name and not options.seen and options.part == "test":
        raise DataError(
            f"{name} was trained on {len(seen)} of the {len(videos)} test videos of split {options.split} "
            f"(it knows split {description.trained_on.split}); --seen tests all the same"
        )
    size = description.network.size
    protocol = Protocol(
        chunks=options.frames,
        flips=options.flips and "mirror" in header.keeps,
        spatial=spatial_of(options),
        pool=options.pool,
        temporal_pool=options.temporal_pool,
        temporal_window=options.temporal_window,
        short_side=short_side_for_test(size, header.keeps),
        crop=size,
        data=header.name,
        split=options.split,
        part=options.part,
    )
    streams = score_shared(network, store, videos, protocol, context)
    labels = [header.classes.index(video.class_name) for video in videos]
    about = protocol.model_dump(mode="json") | {"words": str(protocol), "seen_in_training": len(seen)}
    groups = [f"{video.class_name}/{video.group}" if video.group else video.id for video in videos]
    return Scores([video.id for video in videos], header.classes, labels, streams, about, groups)


def spatial_of(options: Options) -> Literal["fully_conv", "ten_crop", "centre_crop"]:
    """What of the frames is scored."""
    if options.ten_crop:
        return "ten_crop"
    return "centre_crop" if options.centre_crop or not options.fully_conv else "fully_conv"


def chosen_videos(options: Options, store: Any, description: Any, name: str) -> Any:
    """The videos of the part that is asked for. Raises `DataError` when training held none out of this list."""
    from stmn.sampling.clips import split_validation

    if options.part != "validation":
        return store.part(options.split, options.part)
    known, training = description.trained_on, description.training
    if known.data != store.header.name or known.split != options.split:
        raise DataError(
            f"{name} was trained on {known.data} split {known.split}: it held no videos out of {store.header.name} "
            f"split {options.split}"
        )
    videos = store.part(options.split, "train")
    _, held = split_validation(videos, training.get("validation", 0.0), training.get("seed", 0))
    if not held:
        raise DataError(f"{name}: training held no videos out (validation = {training.get('validation', 0.0)})")
    return held


def score_shared(network: Any, store: Any, videos: Any, protocol: Any, context: Context) -> Any:
    """Scores of all videos, each scored once by one of torchrun's processes; in all of them."""
    import torch

    from stmn.evaluation.inference import score_videos
    from stmn.runtime.device import choose_device

    device, ranks = choose_device(context.device), context.ranks
    if ranks.size == 1:
        return score_videos(network, store, videos, protocol, device, context.progress)
    ranks.join(device)
    rows = list(range(len(videos)))[ranks.rank :: ranks.size]
    streams = {}
    own = (
        score_videos(network, store, [videos[row] for row in rows], protocol, device, context.progress) if rows else {}
    )
    for name in network.outputs:
        everyone = torch.zeros(len(videos), len(network.config.classes))
        if rows:
            everyone[rows] = own[name]
        streams[name] = ranks.all_reduce(everyone.to(device.device)).cpu()  # the others' rows are zeros here
    return streams
