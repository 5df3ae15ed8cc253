"""Find the same file under two names, on both sides of a split."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from stmn.errors import count_of
from stmn.store.format.read import Store
from stmn.store.inspect.lookup import quote_id

#: a set with more splits, which are folds, gets one line for all of them
_MOST_SPLITS = 3


def find_copies(store: Store) -> Iterator[str]:
    """Yield a line per pair of parts of a split, and for pairs of classes, with the same files under other names."""
    by_content: dict[str, list[str]] = {}
    for video in store.videos.values():
        if video.status == "ok" and video.source_hash:
            by_content.setdefault(video.source_hash, []).append(video.id)
    copies = {i: [j for j in ids if j != i] for ids in by_content.values() if len(ids) > 1 for i in ids}
    if copies:
        yield from _describe_doubtful(store, copies)
        words = "video of {there} is in {here} under another name", "videos of {there} are in {here} under another name"
        yield from describe_leaks(store, copies, words, "as")


def _describe_doubtful(store: Store, copies: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a line if videos of different classes are the same file: one of the two labels is wrong."""
    of = {i: video.class_name for i, video in store.videos.items()}
    found = {(i, j) for i, others in copies.items() for j in others if i < j and of[i] != of[j]}
    if found:
        one, other = min(found)
        pairs = count_of(len(found), "pair of videos is", "pairs of videos are")
        yield f"{pairs} the same file in two classes, the first: {quote_id(one)} and {quote_id(other)}"


def describe_leaks(
    store: Store, twins: Mapping[str, Sequence[str]], words: tuple[str, str], link: str
) -> Iterator[str]:
    """Yield a line per pair of parts of a split with twins on both sides; one for all splits if there are many.

    Args:
        store: The set.
        twins: Video id -> the ids of its twins.
        words: Text for one video, and for several; `{there}` stands for their part, `{here}` for their twins'.
        link: Stands before the first twin.
    """
    lines: list[str] = []
    splits = 0
    for split, parts in store.header.splits.items():
        before = len(lines)
        for (one, ids), (other, other_ids) in combinations(parts.items(), 2):
            there = set(ids)
            found: dict[str, str] = {}
            for i in other_ids:
                for twin in twins.get(i, ()):
                    if twin in there:
                        found.setdefault(i, twin)
            if found:
                first = next(iter(found))
                count = count_of(len(found), *(text.format(here=one, there=other) for text in words))
                twin = quote_id(found[first])
                lines.append(f"split {split}: {count}, the first: {quote_id(first)} ({link} {twin})")
        splits += len(lines) > before
    if len(store.header.splits) > _MOST_SPLITS and splits > 1:
        lines = [f"{lines[0]}; {splits} of {len(store.header.splits)} splits have such videos"]
    yield from lines
