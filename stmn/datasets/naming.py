"""Groups that nobody named: what the names of videos have in common beside their class, such as a person's name."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from operator import attrgetter
from pathlib import PurePath

from stmn.datasets.base import PARTS, VideoEntry

#: share of the videos that must have a group, and of the groups that must be in several classes, to be believed in
SURE = 0.8
#: or share of the videos that must share class and group with another
_SHARED = 0.5
#: letters that a name without its class must have: a.avi, b.avi, ... count videos
_FEWEST_LETTERS = 3
#: words that a number follows which counts the videos of a class, and names nobody
_COUNTED = """
action clip dsc example file frame frames gopr image img instance item mov movie mvi no nr number pxl rep repetition
sample seq sequence take trial v vid video
"""
_COUNTERS = frozenset(_COUNTED.split())
#: what may follow a class in a name: walking, runs, hugged
_ENDINGS = r"(?:[^\W\d_]?(?:ing|ed)|e?s)?"
_LETTER = r"[^\W\d_]"


@dataclass(frozen=True)
class _Name:
    """A video's name in parts: the folders between its class folder and its file; before and after its class."""

    folders: str
    before: str
    after: str


def guess_groups(videos: Sequence[VideoEntry]) -> dict[str, str]:
    """Find groups in the names of videos: ids -> groups.

    A group may be a folder in the class folder (`walk/ann/1.avi`), or stand before the class (`ann_walk_1.avi`), after
    it (`walk_ann_1.avi`) or alone (`walk/ann_1.avi`), with and without the numbers that follow. The first of these is
    taken by which most videos have a group, and that shows groups: most of them are in several classes, or half of the
    videos share class and group with another.

    Args:
        videos: all videos of the set.

    Returns:
        Nothing if the names show no groups. A video may have none.
    """
    names = {video.id: _take_apart(video) for video in videos}
    classes = {video.id: video.class_name for video in videos}
    for guess in _list_guesses():
        groups = {video: guess(name) for video, name in names.items()}
        found = {video: group for video, group in groups.items() if group and group.lower() not in _COUNTERS}
        if _is_believable(found, classes):
            return found
    return {}


def _take_apart(video: VideoEntry) -> _Name:
    """Take a name apart at its class, if that stands in it as a word."""
    path = PurePath(video.id)
    words = re.escape(video.class_name).replace(r"\ ", r"[\W_]*").replace("_", r"[\W_]*")
    stem = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path.stem)  # annWalk
    found = re.split(rf"(?<!{_LETTER})({words}{_ENDINGS})(?!{_LETTER})", stem, maxsplit=1, flags=re.IGNORECASE)
    above = path.parent.parts
    deeper = above[above.index(video.class_name) + 1 :] if video.class_name in above else ()
    folders = "/".join(name for name in deeper if name.lower() not in PARTS)
    if video.class_name and len(found) == 3:
        return _Name(folders, *(re.sub(r"^[\W_]+|[\W_]+$", "", found[side]) for side in (0, 2)))
    letters = sum(character.isalpha() for character in path.stem)
    return _Name(folders, path.stem if letters >= _FEWEST_LETTERS else "", "")


def _list_guesses() -> Iterator[Callable[[_Name], str]]:
    """What may be the group of a video, the most likely first."""
    yield attrgetter("folders")
    # numbers at the end count a person's videos, or are part of what names the person
    numbers = (r"([\W_]*\d+)+$", r"[\W_]+\d+$", r"$")
    for part, number in product(("before", "after"), numbers):
        yield partial(_cut_off, part, number)


def _cut_off(part: str, ending: str, name: _Name) -> str:
    """A part of a name without its ending, a regular expression."""
    return re.sub(ending, "", getattr(name, part))


def _is_believable(found: dict[str, str], classes: dict[str, str]) -> bool:
    """True if a guess shows groups.

    Args:
        found: ids -> groups.
        classes: the ids of all videos -> their classes.
    """
    groups = set(found.values())
    if len(groups) < 2 or len(found) < SURE * len(classes):
        return False
    pairs = Counter((classes[video], group) for video, group in found.items())
    several = Counter(group for _, group in pairs)
    # ann and bob, or person1 and person2, but not 1 and 2, or clip1 and clip2
    name_somebody = not {re.sub(r"[\W\d_]+", "", group).lower() for group in groups} <= _COUNTERS | {""}
    if name_somebody and sum(count > 1 for count in several.values()) >= SURE * len(groups):
        return True
    per_class = Counter(name for name, _ in pairs)
    divided = sum(count > 1 for count in per_class.values())
    sharing = sum(count for count in pairs.values() if count > 1)
    return divided >= SURE * len(set(classes.values())) and sharing >= _SHARED * len(classes)
