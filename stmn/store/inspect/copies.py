"""The same file under two names, on both sides of a split."""

from collections.abc import Iterator
from itertools import combinations

from stmn.store.format.read import Store
from stmn.store.inspect.lookup import quote_id


def find_copies(store: Store) -> Iterator[str]:
    """Yield a line for each two parts of a split that hold the same files under different names."""
    contents = {video.id: video.source_hash for video in store.videos.values() if video.status == "ok"}
    for split, parts in store.header.splits.items():
        for (one, ids), (other, other_ids) in combinations(parts.items(), 2):
            first = {contents[i]: i for i in ids if contents.get(i)}
            copies = [i for i in other_ids if (same := first.get(contents.get(i, ""))) and same != i]
            if copies:
                yield (
                    f"split {split}: {len(copies)} videos of {other} are in {one} under another name, the first: "
                    f"{quote_id(copies[0])} (as {quote_id(first[contents[copies[0]]])})"
                )
