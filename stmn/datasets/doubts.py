"""Find what looks wrong in a list of videos before any of them is decoded: a line each for a person to judge."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from stmn.datasets.base import Splits, VideoEntry
from stmn.errors import count_of

#: words that mirroring exchanges
MIRRORED = {"left": "right", "right": "left", "counterclockwise": "clockwise", "anticlockwise": "clockwise"}
#: largest number of names in a line, and of lines of one kind
_MOST = 3


def find_doubts(videos: Sequence[VideoEntry], splits: Splits, mirror: bool) -> Iterator[str]:
    """Yield a line for each thing that looks wrong.

    Args:
        videos: All videos.
        splits: The splits of them.
        mirror: Training may mirror the videos, and no classes were declared as exchanged by mirroring.
    """
    classes = sorted({video.class_name for video in videos if video.class_name})
    if len(classes) == 1:
        yield f"all videos are of one class, '{classes[0]}'; there is nothing to tell apart"
    yield from _alike(classes)
    yield from _unlisted({video.id for video in videos}, splits)
    yield from _one_sided({video.id: video.class_name for video in videos}, splits)
    if mirror and (pairs := find_mirror_pairs(classes)):
        some = ", ".join(f"'{one}' and '{other}'" for one, other in pairs[:_MOST])
        more = f" and {len(pairs) - _MOST} more pairs" if len(pairs) > _MOST else ""
        yield (
            f"{some}{more} change places in a mirror, and training mirrors half of the videos; --mirror-pairs "
            "left=right exchanges them, --no-mirror forbids mirrors"
        )


def find_mirror_pairs(classes: Sequence[str], words: Mapping[str, str] = MIRRORED) -> list[tuple[str, str]]:
    """Return the pairs of classes that mirroring exchanges, judging by their names.

    Args:
        classes: All classes.
        words: Words in class names that mirroring exchanges.
    """
    known = set(classes)
    pairs = set()
    for name in classes:
        for word, other in [*words.items(), *((other, word) for word, other in words.items())]:
            swapped = _replace(name, word, other)
            if swapped != name and swapped in known:
                pairs.add((min(name, swapped), max(name, swapped)))
    return sorted(pairs)


def _replace(name: str, word: str, other: str) -> str:
    """Replace a word in a name, keeping its case: capitals, one capital, or none."""

    def in_case(match: re.Match[str]) -> str:
        found = match[0]
        return other.upper() if found.isupper() else other.capitalize() if found[0].isupper() else other

    return re.sub(re.escape(word), in_case, name, flags=re.IGNORECASE)


def _alike(classes: Sequence[str]) -> Iterator[str]:
    """Yield classes whose names differ only in case, encoding of accents, blanks or hyphens."""
    by_key: dict[str, list[str]] = {}
    for name in classes:
        by_key.setdefault(re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold()), []).append(name)
    alike = [names for names in by_key.values() if len(names) > 1]
    for names in alike[:_MOST]:
        shown = " and ".join(repr(name) if len({*map(_shown, names)}) == len(names) else ascii(name) for name in names)
        yield f"classes {shown} differ only in how they are written; they are different classes here"
    if len(alike) > _MOST:
        yield f"{len(alike) - _MOST} more classes differ only in how they are written"


def _shown(name: str) -> str:
    """Return a name as a terminal shows it: composed and decomposed letters look the same."""
    return unicodedata.normalize("NFC", name)


def _unlisted(known: set[str], splits: Splits) -> Iterator[str]:
    """Yield a line about videos of the splits that are missing."""
    listed = dict.fromkeys(i for parts in splits.values() for ids in parts.values() for i in ids)
    missing = [i for i in listed if i not in known]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        all_listed = count_of(len(listed), "video")
        yield f"{len(missing):,} of {all_listed} in the lists of the splits {verb} missing, the first: '{missing[0]}'"


def _one_sided(class_of: Mapping[str, str], splits: Splits) -> Iterator[str]:
    """Yield lines about classes that a split only trains on or only tests, and about parts without a video."""
    lines = []
    for split, parts in splits.items():
        train, test = ({class_of[i] for i in parts.get(part, ()) if i in class_of} for part in ("train", "test"))
        for part, here, there in (("training", train, test), ("test", test, train)):
            if not here:
                lines.append(f"split {split} has no {part} video")
            elif there - here:
                names = sorted(there - here)
                some = ", ".join(names[:_MOST]) + (", ..." if len(names) > _MOST else "")
                count = count_of(len(names), "class has", "classes have")
                lines.append(f"split {split}: {count} no {part} video: {some}")
    if len(lines) > 2 * _MOST:
        lines = [f"{lines[0]}; {len(lines) - 1} more such lines about other splits"]
    yield from lines
