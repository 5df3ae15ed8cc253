"""The check of data sets."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stmn.datasets.base import Dataset, VideoEntry
from stmn.testing.checklist import Checklist

_PARTS = {"train", "validation", "test"}


def check_dataset(dataset: Callable[..., Dataset], root: Path | str | None = None, **options: Any) -> None:
    """Check that a data set keeps its contract, and print what passed.

    It checks that videos are always listed in the same order, with unique ids; that the splits name them, and no video
    or group is in two parts of a split; that the first videos can be fetched and decoded, or have their pictures; and
    that masks fit the frames.

    Args:
        dataset: the plugin, a class.
        root: a folder of its videos. Without one, the videos are checked only if the data set makes them.
        options: the plugin's options.

    Raises:
        PluginError: the contract is broken; the message says what its author must change.
    """
    checks = Checklist("dataset", dataset)
    with checks.part("class", "it must be a class, a subclass of stmn.plugins.Dataset"):
        checks.require(
            isinstance(dataset, type) and issubclass(dataset, Dataset), "is no data set",
            "it must be a class, a subclass of stmn.plugins.Dataset",
        )  # fmt: skip
        for name in ("videos", "splits"):
            checks.require(getattr(dataset, name) is not getattr(Dataset, name), f"has no {name}()", f"define {name}")
        wrong = set(getattr(dataset, "keeps", ())) - {"mirror", "crop"}
        checks.require(not wrong, f"keeps names {', '.join(map(repr, wrong))}", "it may name 'mirror' and 'crop'")
    checks.check_options(dataset)
    if root is None and not dataset.makes_videos:  # type: ignore[attr-defined]
        checks.finish()
        return
    with TemporaryDirectory() as empty:
        must = "its __init__ must take the root folder first, and everything else with a default"
        made = checks.build(must, dataset, Path(root) if root is not None else Path(empty), **options)
        _check_lists(checks, made)
        _check_files(checks, made)
    checks.finish()


def _check_lists(checks: Checklist, made: Dataset) -> None:
    """Check the list of videos, and the splits."""
    with checks.part("videos", "videos() must return VideoEntry objects, always in the same order"):
        videos = list(made.videos())
        checks.require(bool(videos), "lists no videos", "videos() must return at least one")
        strange = next((type(video).__name__ for video in videos if not isinstance(video, VideoEntry)), "")
        checks.require(not strange, f"lists a {strange}", "videos() must return VideoEntry objects")
        ids = [video.id for video in videos]
        checks.require(len(set(ids)) == len(ids), "two videos have one id", "make ids of paths below the root")
        checks.require(list(made.videos()) == videos, "lists its videos in another order the second time", "sort them")
        for video in videos:
            checks.require(isinstance(video.path, Path), f"the path of {video.id} is a {type(video.path).__name__}",
                           "make it a pathlib.Path")  # fmt: skip
    with checks.part("splits", "splits() must return {split: {'train': [ids], 'test': [ids]}}"):
        splits = made.splits()
        checks.require(bool(splits), "has no splits", "splits() must return at least one")
        groups = {video.id: video.group for video in videos}
        for name, parts in splits.items():
            where = f"split {name}"
            checks.require(isinstance(name, str), f"{where} is no text", "name splits '1', '2', ...")
            checks.require(_PARTS >= set(parts) >= {"train", "test"}, f"{where} has the parts {', '.join(parts)}",
                           "it must have train and test, and may have validation")  # fmt: skip
            unknown = next((i for ids in parts.values() for i in ids if i not in groups), None)
            checks.require(unknown is None, f"{where} names {unknown!r}, which videos() does not list", "use its ids")
            twice = set(parts["train"]) & set(parts["test"])
            checks.require(not twice, f"{where} trains on and tests {sorted(twice)[:1]}", "each video is on one side")
            sides = [{groups[i] for i in parts[side]} - {""} for side in ("train", "test")]
            both = sorted(sides[0] & sides[1])
            checks.require(not both, f"group {both[:1]} is on both sides of {where}", "keep groups on one side")


def _check_files(checks: Checklist, made: Dataset) -> None:
    """Check the first videos that are there."""
    from stmn.video.decode import decode_video

    there = [video for video in islice(made.videos(), 50) if not made.lacks(video)][:2]
    for video in there:
        if made.has_pictures:
            with checks.part("pictures", "pictures() must return one fewer field of u, and of v, than frames"):
                files = made.pictures(video)
                checks.require(
                    len(files.u) == len(files.v) == len(files.frames) - 1,
                    f"{video.id} has {len(files.frames)} frames, {len(files.u)} u and {len(files.v)} v",
                    "there must be one fewer field of u, and of v, than frames",
                )
                checks.require(made.short_side() > 0, "short_side() is 0", "return the frames' short side in pixels")
            continue
        with checks.part("files", "fetch() must return the path of a video that FFmpeg can read"):
            path = made.fetch(video)
            frame = next(iter(decode_video(path)), None)
            checks.require(frame is not None, f"{path} has no frames", "fetch() must return a readable video")
            missing = next((str(source) for source in made.sources(video) if not Path(source).exists()), "")
            checks.require(not missing, f"sources() names {missing}, which is not there", "name what fetch() reads")
        if type(made).masks is not Dataset.masks and frame is not None:
            with checks.part("masks", "masks() must return {name: (times, height, width)}"):
                for name, mask in made.masks(video.id, [0, 1]).items():
                    checks.require(
                        mask.shape == (2, *frame.shape[:2]) and mask.dtype == bool,
                        f"the mask '{name}' is {mask.dtype} {mask.shape}, and frames are {frame.shape[:2]}",
                        "return truth values of (times, height, width)",
                    )
