"""Choose the videos that the Gaussians and SVMs learn from and those that they score; the two never overlap."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from stmn.errors import DataError
from stmn.options.idt import IdtFitOptions
from stmn.stages.base import Context
from stmn.stages.sources import fill_source, find_inputs
from stmn.workspace import Input, Workspace

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores
    from stmn.store.format.read import Store, StoredVideo

OptionsT = TypeVar("OptionsT", bound=IdtFitOptions)


@dataclass(frozen=True)
class Lists:
    """Videos to learn from and to score.

    Attributes:
        train: Training videos of the split that are not scored.
        scored: The split's test videos, or those of given scores.
        part: The part of the split that the scored videos are: "test", "validation", "train".
        left_out: How many training videos were left out: scored ones, copies of those, or videos of scored groups.
    """

    train: "list[StoredVideo]"
    scored: "list[StoredVideo]"
    part: str
    left_out: int


def fill_split(options: OptionsT, workspace: Workspace, inputs: dict[str, list[Input]]) -> OptionsT:
    """Fill in the split: that of the scores, or 1. Raises `DataError` if the scores don't fit."""
    if given := find_inputs(options, "scores", workspace, inputs):
        options = fill_source(options, given, workspace)
    return options.with_defaults(split="1", data=workspace.find_data(options.data).name)


def find_lists(options: IdtFitOptions, store: "Store", context: Context) -> Lists:
    """The videos to learn from and to score.

    Raises:
        DataError: No video is left to learn from, or those left are of one class.
    """
    from stmn.evaluation.scores import load_scores

    item = context.input("scores")
    return select_videos(str(options.split), store, load_scores(item.path) if item else None)


def select_videos(split: str, store: "Store", scores: "Scores | None" = None) -> Lists:
    """The scored videos, and the training videos of a split that are independent of them.

    Scored videos, and copies of them under other names, are left out of training. If scores are of the training list
    itself (those that training held out), all videos of the scored groups are left out too.

    Args:
        split: The split.
        store: The prepared set.
        scores: Scores of the videos to score; None for the split's test videos.

    Raises:
        DataError: No training video is left, or those left are of one class.
    """
    train = store.part(split, "train")
    if scores is None:
        scored, part, hashes = store.part(split, "test"), "test", set()
    else:
        scored, part = [store.video(video_id) for video_id in scores.ids], scores.protocol.get("part") or "test"
        hashes = set(scores.hashes)
    ids = {video.id for video in scored}
    hashes = (hashes | {video.source_hash for video in scored}) - {""}
    groups = set() if part == "test" else {video.group for video in scored} - {""}
    left = [
        video
        for video in train
        if video.id not in ids and video.source_hash not in hashes and video.group not in groups
    ]
    if len({video.class_name for video in left}) < 2:
        what = f"{len(left)}, all of one class, are left" if left else "none is left"
        raise DataError(
            f"SVMs can't learn from videos that they score: of the {len(train)} training videos of split {split} "
            f"{what}; fuse scores of test or validation videos, or give --idt-scores"
        )
    return Lists(left, scored, part, len(train) - len(left))
