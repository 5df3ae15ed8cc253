"""Folds: splits that together test every video exactly once."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from stmn.datasets.base import Splits, VideoEntry
from stmn.datasets.groups import natural
from stmn.errors import DataError, UsageError, count_of
from stmn.runtime.files import file_digest

#: advice on how to state which videos belong together
_HINT = (
    "names like a_g01_c01.avi have groups, as have lists with a column group; for other names give "
    "--dataset-options group_pattern='/([a-z]+)_', whose brackets match the group"
)


#: default number of folds
FOLDS = 5


def choose_folds(videos: Sequence[VideoEntry], count: int | None) -> tuple[Literal["group", "video"], int]:
    """Choose folds of groups if `can_hold_out_groups`, else folds of videos; return which, and their number.

    Args:
        videos: The videos to divide.
        count: Largest number of folds; None for `FOLDS`. There are never more than groups, or videos.
    """
    by: Literal["group", "video"] = "group" if can_hold_out_groups(videos) else "video"
    return by, min(count or FOLDS, len(set(_find_units(videos, by))))


def can_hold_out_groups(videos: Sequence[VideoEntry]) -> bool:
    """True if there are at least two groups, and most videos are of classes in several: others can't be held out.

    A class of one group is tested by a network that has not seen it, but the people of all others stay apart.
    """
    if len({video.group for video in videos if video.group}) < 2:
        return False
    groups: dict[str, set[str]] = {}
    for video in videos:
        groups.setdefault(video.class_name, set()).add(video.group or f"/{video.id}")
    return 2 * sum(len(groups[video.class_name]) > 1 for video in videos) > len(videos)


def describe_folds(videos: Sequence[VideoEntry], by: Literal["group", "video"]) -> str:
    """Return a line about what folds of single videos mean for groups; "" if there is nothing to say."""
    if by == "group" or not any(video.group for video in videos):
        return ""
    return "folds are of single videos, so a group may be both trained on and tested" + (
        "" if can_hold_out_groups(videos) else ": most videos are of classes of one group each, which can't be held out"
    )


def make_folds(videos: Sequence[VideoEntry], by: Literal["group", "video"], count: int | None) -> Splits:
    """Make splits "1", "2", ...: each tests one fold and trains on all others.

    Folds are balanced in videos and classes, and depend only on the list.

    Args:
        videos: The videos to divide.
        by: "group": whole groups; a video without one is its own group. "video": single videos.
        count: The number of folds; None for one per group, in natural order of the groups' names.

    Raises:
        UsageError: There are too few groups or videos, or, for a fold per group, videos without a group.
    """
    alone = [video.id for video in videos if not video.group]
    if by == "group" and len(alone) == len(videos):
        raise UsageError(f"split_by = group: no video has a group; {_HINT}")
    if by == "group" and alone and count is None:
        some = (
            f"{len(alone):,} of {count_of(len(videos), 'video')} {'has' if len(alone) == 1 else 'have'} no group, "
            f"the first: '{alone[0]}'"
        )
        raise UsageError(f"split_by = group: {some}; {_HINT}")
    units = _find_units(videos, by)
    names = sorted(set(units), key=natural)
    count = count or len(names)
    if not 2 <= count <= len(names):
        kind = "groups" if by == "group" else "videos"
        copies = "" if len(names) == len({*_name_units(videos, by)}) else ", as copies of a file stay together"
        raise UsageError(f"{count} folds need at least {max(count, 2)} {kind}, but there are {len(names)}{copies}")
    numbers = {name: number for number, name in enumerate(names)}
    fold_of = _deal(videos, [numbers[unit] for unit in units], count)
    folds = [fold_of[numbers[unit]] for unit in units]
    return {
        str(number + 1): {
            "train": [video.id for video, fold in zip(videos, folds, strict=True) if fold != number],
            "test": [video.id for video, fold in zip(videos, folds, strict=True) if fold == number],
        }
        for number in range(count)
    }


def _name_units(videos: Sequence[VideoEntry], by: Literal["group", "video"]) -> list[str]:
    """Return the group of each video, or the video itself."""
    return [video.group if by == "group" and video.group else f"/{video.id}" for video in videos]


def _find_units(videos: Sequence[VideoEntry], by: Literal["group", "video"]) -> list[str]:
    """Return the unit of each video: its group or itself, merged with all units that hold a copy of the file."""
    units = _name_units(videos, by)
    first: dict[tuple[str, str], str] = {}
    same = {unit: unit for unit in units}
    for copied, unit in zip(_find_copied(videos), units, strict=True):
        if copied is not None:
            one, other = same[first.setdefault(copied, unit)], same[unit]
            same = {name: one if found == other else found for name, found in same.items()} if one != other else same
    return [same[unit] for unit in units]


def _find_copied(videos: Sequence[VideoEntry]) -> list[tuple[str, str] | None]:
    """Return hash and segment of each video whose file may have a copy (a file of equal size); None for the others."""
    sizes = [os.path.getsize(video.path) if os.path.isfile(video.path) else 0 for video in videos]
    counts = Counter(sizes)
    found: list[tuple[str, str] | None] = []
    for video, size in zip(videos, sizes, strict=True):
        try:
            found.append((file_digest(video.path), video.segment) if size and counts[size] > 1 else None)
        except (OSError, DataError):  # `prepare` names what it can't read
            found.append(None)
    return found


def _deal(videos: Sequence[VideoEntry], units: Sequence[int], count: int) -> list[int]:
    """Return the fold of each unit: the largest go first, each to the fold that has the fewest of the same classes.

    Args:
        videos: All videos.
        units: The unit of each, numbered from 0.
        count: The number of folds, at most that of the units.
    """
    total = max(units) + 1
    if count == total:
        return list(range(total))
    classes = {name: column for column, name in enumerate(sorted({video.class_name for video in videos}))}
    sizes = np.zeros((total, len(classes)))
    for video, unit in zip(videos, units, strict=True):
        sizes[unit, classes[video.class_name]] += 1
    # shares of each class, and of all videos
    shares = np.column_stack([sizes / sizes.sum(0), sizes.sum(1) / sizes.sum()])
    held = np.zeros((count, shares.shape[1]))
    folds = [0] * total
    for unit in sorted(range(total), key=lambda unit: -sizes[unit].sum()):
        # adding a to f raises the sum of squares by 2 f a + a^2, least where f a is least; an empty fold always wins
        folds[unit] = int(np.argmin((held @ shares[unit]).round(9)))
        held[folds[unit]] += shares[unit]
    return folds
