"""Guess groups from what the names of videos share apart from their class, such as a person's name."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from operator import attrgetter
from pathlib import PurePath

from stmn.datasets.base import PARTS, VideoEntry

#: a guess is accepted if this share of the videos has a group, and this share of the groups is in several classes
SURE = 0.8
#: or if this share of the videos shares class and group with another video
_SHARED = 0.5
#: fewest letters in a name without its class: a.avi, b.avi, ... only count videos
_FEWEST_LETTERS = 3
#: fewest fields of one letter and a number in a name that consists of such fields
_FEWEST_FIELDS = 2
#: words before a number that only counts the videos of a class and names nobody
_COUNTED = """
action clip dsc example file frame frames gopr image img instance item mov movie mvi no nr number pxl rep repetition
sample seq sequence take trial v vid video
"""
_COUNTERS = frozenset(_COUNTED.split())
#: words that come before a person's number, the most reliable first
_WHO = ("person", "performer", "subject", "subj", "sub", "actor", "participant", "signer", "user", "p", "s")
#: words, with or without a number, that say how or when a video was recorded, but not whom it shows
_RECORDED = "(?:cam|camera|view|viewpoint|angle|session|take|day|indoors?|outdoors?)"
#: what may follow a class in a name: walking, runs, hugged
_ENDINGS = r"(?:[^\W\d_]?(?:ing|ed)|e?s)?"
_LETTER = r"[^\W\d_]"


@dataclass(frozen=True)
class _Name:
    """A video's name in parts: folders between class folder and file; text before and after the class; its numbers."""

    folders: str
    before: str
    after: str
    fields: dict[str, str]


def guess_groups(videos: Sequence[VideoEntry]) -> dict[str, str]:
    """Find groups in the names of videos; return id -> group.

    A group may be a folder in the class folder (`walk/ann/1.avi`), or the number of a person among other numbers
    (`S001C002P003R002A023.avi`, `a01_s03_e02.avi`), or it may stand before the class (`ann_walk_1.avi`), after it
    (`walk_ann_1.avi`) or alone (`walk/ann_1.avi`), with or without the numbers that follow. The first of these guesses
    is taken that gives most videos a group and is plausible: most groups are in several classes, or half of the videos
    share class and group with another. Case is ignored, and so are cameras, sessions and the like (`ann_cam1_walk.avi`)
    unless there is nothing else. A word that all names of a class have, and no others, stands for the class.

    Args:
        videos: all videos of the set.

    Returns:
        Empty if the names show no groups. Some videos may have none.
    """
    words = _find_class_words(videos)
    plain, full = ({video.id: _take_apart(video, words, whole) for video in videos} for whole in (False, True))
    classes = {video.id: video.class_name for video in videos}
    for names, guess in product([plain, full] if plain != full else [plain], list(_list_guesses())):
        groups = {video: guess(name) for video, name in names.items()}
        spelled = {group.casefold(): group for group in reversed(groups.values())}  # as the first video has it
        groups = {video: spelled[group.casefold()] for video, group in groups.items()}
        found = {video: group for video, group in groups.items() if group and group.lower() not in _COUNTERS}
        if _is_believable(found, classes):
            return found
    return {}


def _split_words(stem: str) -> str:
    """Return a name with its words apart: ann_Walk for annWalk."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", stem)


def _find_class_words(videos: Sequence[VideoEntry]) -> dict[str, set[str]]:
    """Return for each class the words that are in all names of its videos, and in no other names."""
    common: dict[str, set[str]] = {}
    classes: dict[str, set[str]] = {}
    for video in videos:
        words = {word.lower() for word in re.findall(rf"{_LETTER}+", _split_words(PurePath(video.id).stem))}
        common[video.class_name] = common.get(video.class_name, words) & words
        for word in words:
            classes.setdefault(word, set()).add(video.class_name)
    return {name: {word for word in words if len(classes[word]) == 1} for name, words in common.items()}


def _take_apart(video: VideoEntry, class_words: dict[str, set[str]], whole: bool) -> _Name:
    """Take a name apart at its class, if the class is a word in it.

    Args:
        video: The video.
        class_words: Words that stand for classes (`_find_class_words`).
        whole: Keep the words of `_RECORDED`.
    """
    path = PurePath(video.id)
    own = re.escape(video.class_name).replace(r"\ ", r"[\W_]*").replace("_", r"[\W_]*") + _ENDINGS
    stem, bare, above = _split_words(path.stem), path.stem, path.parent.parts
    deeper = above[above.index(video.class_name) + 1 :] if video.class_name in above else ()
    if not whole:
        stem, bare = (re.sub(_word(_RECORDED + r"[\W_]*\d*"), "", name, flags=re.IGNORECASE) for name in (stem, bare))
        deeper = tuple(name for name in deeper if not re.fullmatch(rf"{_RECORDED}[\W_]*\d*", name, re.IGNORECASE))
    found = re.split(f"({_word(own)})", stem, maxsplit=1, flags=re.IGNORECASE)
    if len(found) < 3 and (words := class_words[video.class_name]) and not re.search(_word(own), bare, re.IGNORECASE):
        first, *others = re.split(_word("|".join(sorted(words))), stem, flags=re.IGNORECASE)
        found = [first, "", "".join(others)]
    folders = "/".join(name for name in deeper if name.lower() not in PARTS)
    if video.class_name and len(found) == 3:
        before, after = (re.sub(r"^[\W_]+|[\W_]+$", "", found[side]) for side in (0, 2))
        return _Name(folders, before, after, _find_fields(path.stem))
    bare = bare if bare == path.stem else re.sub(r"^[\W_]+|[\W_]+$", "", bare)
    letters = sum(character.isalpha() for character in bare)
    return _Name(folders, bare if letters >= _FEWEST_LETTERS else "", "", _find_fields(path.stem))


def _word(pattern: str) -> str:
    """Return the pattern of a whole word."""
    return rf"(?<!{_LETTER})(?:{pattern})(?!{_LETTER})"


def _list_guesses() -> Iterator[Callable[[_Name], str]]:
    """Yield functions that guess the group of a video, the most likely first."""
    yield attrgetter("folders")
    for word in _WHO:
        yield partial(_find_person, word)
    # numbers at the end count a person's videos, or belong to the person's name
    numbers = (r"([\W_]*\d+)+$", r"[\W_]+\d+$", r"$")
    for part, number in product(("before", "after"), numbers):
        yield partial(_cut_off, part, number)


def _find_fields(name: str) -> dict[str, str]:
    """Return the words of a name and the numbers behind them: S001P003 has `s` -> `001` and `p` -> `003`.

    Words of one letter are left out unless there are several: `a1` may count videos.
    """
    fields = {letters.lower(): number for letters, number in reversed(re.findall(rf"({_LETTER}+)(\d+)", name))}
    several = sum(len(letters) == 1 for letters in fields) >= _FEWEST_FIELDS
    return {letters: number for letters, number in fields.items() if several or len(letters) > 1}


def _find_person(word: str, name: _Name) -> str:
    """Return the person that a word and its number name: `p003` of S001C002P003R002A023."""
    return word + name.fields[word] if word in name.fields else ""


def _cut_off(part: str, ending: str, name: _Name) -> str:
    """Return a part of a name without its ending, which is given as a regular expression."""
    return re.sub(ending, "", getattr(name, part))


def _is_believable(found: dict[str, str], classes: dict[str, str]) -> bool:
    """True if a guess plausibly shows groups.

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
