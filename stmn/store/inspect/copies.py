"""The same file under two names, on both sides of a split."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from stmn.errors import count_of
from stmn.store.format.read import Store
from stmn.store.inspect.lookup import quote_id

#: a set with more splits, which are folds, has one line for all of them
_MOST_SPLITS = 3


def find_copies(store: Store) -> Iterator[str]:
    """Yield a line for each two parts of a split that hold the same files under different names."""
    by_content: dict[str, list[str]] = {}
    for video in store.videos.values():
        if video.status == "ok" and video.source_hash:
            by_content.setdefault(video.source_hash, []).append(video.id)
    copies = {i: [j for j in ids if j != i] for ids in by_content.values() if len(ids) > 1 for i in ids}
    if copies:
        words = "in {part} under another name"
        yield from describe_leaks(store, copies, (f"is {words}", f"are {words}"), "as")


def describe_leaks(
    store: Store, twins: Mapping[str, Sequence[str]], words: tuple[str, str], link: str
) -> Iterator[str]:
    """Yield a line for each two parts of a split with twins on both sides; one for all splits if they are many.

    Args:
        store: The set.
        twins: Video id -> the ids of its twins.
        words: What is said of one video, and of several; `{part}` stands for the part that their twins are in.
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
                first, said = next(iter(found)), [form.format(part=one) for form in words]
                count = count_of(len(found), f"video of {other} {said[0]}", f"videos of {other} {said[1]}")
                twin = f"{quote_id(first)} ({link} {quote_id(found[first])})"
                lines.append(f"split {split}: {count}, the first: {twin}")
        splits += len(lines) > before
    if len(store.header.splits) > _MOST_SPLITS and splits > 1:
        lines = [f"{lines[0]}; {splits} of {len(store.header.splits)} splits have such videos"]
    yield from lines
