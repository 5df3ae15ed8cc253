"""Score the videos of a part of a split with one model."""

from typing import TYPE_CHECKING, Any, Literal

from stmn.errors import DataError, UsageError, count_of
from stmn.options.evaluate import EvaluateOptions
from stmn.stages.base import Context
from stmn.workspace import Input

if TYPE_CHECKING:
    from torch import Tensor

    from stmn.evaluation.protocol import Protocol
    from stmn.evaluation.scores import Scores
    from stmn.nets.checkpoint import Description
    from stmn.nets.network import Network
    from stmn.runtime.device import Device
    from stmn.sampling.noise import BlankStream
    from stmn.store.format.read import Store, StoredVideo


def select_videos(model: Input, options: EvaluateOptions, store: "Store") -> "list[StoredVideo]":
    """The videos to test a model on.

    Raises:
        DataError: The model doesn't fit the data, has learned from these videos, or held out none.
        CheckpointError: It is not a model file.
    """
    from stmn.nets.checkpoint import read_description
    from stmn.stages.model_fit import check_fits, check_unseen

    name, description = model.label, read_description(model.path)
    check_fits(description, name, store)
    videos = _find_part(options, store, description, name)
    if options.part != "train" and not options.allow_seen:
        what = f"{options.part} videos of split {options.split}"
        check_unseen(description, name, store, videos, what, "pass --allow-seen to test on them anyway")
    return videos


def score_model(model: Input, options: EvaluateOptions, store: "Store", context: Context) -> "Scores":
    """Score the split's videos with a model. Raises `DataError` if the model does not fit the data."""
    from stmn.evaluation.protocol import Protocol
    from stmn.evaluation.scores import Scores
    from stmn.nets.checkpoint import load_checkpoint
    from stmn.runtime.device import choose_device
    from stmn.sampling.augment import mirror_order
    from stmn.sampling.noise import measure_noise

    context.progress.say(f"model: {model.label}")
    network, description = load_checkpoint(model.path)
    header, videos = store.header, select_videos(model, options, store)
    seen = description.trained_on.seen(videos, header.name)
    blank = find_blank(model, options)
    noise = measure_noise(store, store.part(str(options.split), "train"), blank, options.seed) if blank else None
    protocol = Protocol(
        chunks=options.chunks,
        flips=options.flips and "mirror" in header.keeps,
        spatial=_spatial_of(options),
        pool=options.pool,
        temporal_pool=options.temporal_pool,
        temporal_window=options.temporal_window,
        short_side=description.test_short_side,
        crop=description.network.size,
        precision=options.precision,
        average=options.average,
        blank=blank,
        noise=noise,
        data=header.name,
        data_fingerprint=store.fingerprint,
        split=str(options.split),
        part=str(options.part),
        mirror_order=mirror_order(header.classes, header.mirror_pairs) if header.mirror_pairs else None,
    )
    fewer = _count_short(videos, network.config.stack_length, options.chunks, context)
    device = choose_device(context.device, protocol.precision, options.loader_threads)
    streams = _score_together(network, store, videos, protocol, device, context)
    labels = [header.classes.index(video.class_name) for video in videos]
    about = protocol.model_dump(mode="json") | {"words": str(protocol), "seen_in_training": len(seen)}
    if fewer:
        about["fewer_chunks"] = fewer
    if description.calibration and protocol.average == "logits":  # a calibration is fitted to logits
        about["temperature"] = description.temperature
    groups = [video.group or video.id for video in videos]
    hashes = [video.source_hash for video in videos]
    return Scores([video.id for video in videos], header.classes, labels, streams, about, groups, hashes)


def find_blank(model: Input, options: EvaluateOptions) -> "BlankStream | None":
    """The stream of a model that is to see noise: the one asked for, or the one that saw noise in training.

    None for a model that has no such stream.

    Raises:
        UsageError: another stream saw noise in training.
    """
    from stmn.nets.checkpoint import read_description

    description = read_description(model.path)
    trained = description.blank
    if trained and options.blank not in (None, trained):
        raise UsageError(
            f"{model.label}: was trained with noise instead of {trained}, so blank = {options.blank} would leave it "
            f"nothing to see: leave it out"
        )
    blank = options.blank or trained
    return blank if blank in [stream.name for stream in description.network.streams] else None


def _count_short(videos: Any, stack_length: int, chunks: int, context: Context) -> int:
    """Count the videos with fewer different chunks than asked for, and print the count: no chunk is tested twice."""
    from stmn.sampling.positions import spread_positions

    found = [count for video in videos if (count := len(spread_positions(video.frames, stack_length, chunks))) < chunks]
    if found:
        context.progress.say(
            f"{len(found):,} of {count_of(len(videos), 'video')} {'is' if len(found) == 1 else 'are'} too short for "
            f"{chunks} different chunks; each is tested on all that it has, the shortest on {min(found)}"
        )
    return len(found)


def _spatial_of(options: EvaluateOptions) -> Literal["fully_conv", "ten_crop", "centre_crop"]:
    """The area of the frames that is scored."""
    if options.ten_crop:
        return "ten_crop"
    return "centre_crop" if options.centre_crop or not options.fully_conv else "fully_conv"


def _find_part(options: EvaluateOptions, store: "Store", description: "Description", name: str) -> "list[StoredVideo]":
    """The videos of the chosen part. Raises `DataError` if training held out none of this list."""
    if options.part != "validation":
        return store.part(str(options.split), options.part or "test")
    known = description.trained_on
    if known.data != store.header.name or known.split != options.split:
        raise DataError(
            f"{name} was trained on {known.data} split {known.split}, so it held out no videos of {store.header.name} "
            f"split {options.split}"
        )
    if known.held_out is None:
        raise DataError(
            f"{name}: its file does not name its validation list, because an older version of stmn wrote it; train it "
            f"again, or evaluate another part"
        )
    if not known.held_out.videos:
        raise DataError(f"{name}: training held no videos out (validation = {known.held_out.share:g})")
    return [store.video(video_id) for video_id in known.held_out.videos]


def _score_together(
    network: "Network", store: "Store", videos: Any, protocol: "Protocol", device: "Device", context: Context
) -> "dict[str, Tensor]":
    """Divide the videos among torchrun's processes, and return all scores to each process."""
    import torch

    from stmn.evaluation.inference import score_videos

    ranks = context.ranks
    if ranks.size == 1:
        return score_videos(network, store, videos, protocol, device, context.progress)
    ranks.join(device)
    rows = list(range(len(videos)))[ranks.rank :: ranks.size]
    own = (
        score_videos(network, store, [videos[row] for row in rows], protocol, device, context.progress) if rows else {}
    )
    streams = {}
    for name in network.outputs:
        everyone = torch.zeros(len(videos), len(network.config.classes))
        if rows:
            everyone[rows] = own[name]
        streams[name] = ranks.all_reduce(everyone.to(device.device)).cpu()  # the rows of other processes are zeros here
    return streams
