"""The training videos that are held out for validation: a function of the training list, a share and a seed.

The list belongs to the data set and its split. Every stage with the same share and seed holds out the same videos, and
a larger share includes the videos of a smaller one, so stages can build on each other.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import inf

from stmn.errors import DataError
from stmn.store.format.read import StoredVideo

#: candidates from which each group of a class is chosen
_CANDIDATES = 32


@dataclass(frozen=True)
class ValidationList:
    """A training list, divided into two parts.

    Attributes:
        kept: The videos to train on.
        held_out: The videos to validate on. No group is in both.
        share: The fraction of the list that was asked for, 0..1; about as much is held out.
        seed: The seed that chose the groups.
    """

    kept: list[StoredVideo]
    held_out: list[StoredVideo]
    share: float
    seed: int

    def describe(self) -> str:
        """Return a line about another share than was asked for, or classes without a held-out video, else ""."""
        if not self.held_out:
            return ""
        held, total = len(self.held_out), len(self.kept) + len(self.held_out)
        notes = []
        if held > 1.5 * self.share * total or 1.5 * held < self.share * total:
            more = held > self.share * total
            notes.append(
                f"{held} of {total} training videos {'is' if held == 1 else 'are'} held out, "
                f"{'more' if more else 'less'} than {self.share:g} of them, because groups are not divided"
                + ("" if more else " and every class keeps one")
            )
        classes = {video.class_name for video in self.held_out}
        if missing := sorted({video.class_name for video in self.kept} - classes):
            some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            notes.append(f"no video of {some} is held out")
        return "validation: " + "; ".join(notes) if notes else ""


def hold_out(videos: Sequence[StoredVideo], share: float, seed: int) -> ValidationList:
    """Hold out about a share of a training list: whole groups, the same share of each class, and no whole class.

    Groups are those of the data set, even if they span several classes; a video without a group is its own. Groups that
    contain the same file under two names count as one group.

    Args:
        videos: The training list.
        share: The fraction of the videos to hold out; 0 for none. Otherwise at least one group is held out.
        seed: Chooses the groups.

    Raises:
        DataError: Nothing can be held out without leaving a class untrained; the message names the class.
    """
    if share <= 0:
        return ValidationList(list(videos), [], share, seed)
    wanted = share * len(videos)
    groups = _groups_of(videos)
    held: set[tuple[str, str]] = set()
    count = 0
    for group, size in _groups_in_order(videos, groups, seed):
        # the nearest whole number of groups, but at least one
        if held and count + size / 2 > wanted:
            break
        held.add(group)
        count += size
    if not held:
        name = _scarcest(videos, groups)
        raise DataError(
            f"validation = {share:g}: no training videos can be held out, because class '{name}' would be left without "
            f"any: its videos are one group; set validation = 0"
        )
    return ValidationList(
        [video for video, group in zip(videos, groups, strict=True) if group not in held],
        [video for video, group in zip(videos, groups, strict=True) if group in held],
        share,
        seed,
    )


def _groups_of(videos: Sequence[StoredVideo]) -> list[tuple[str, str]]:
    """Return the group of each video, as a key; groups that share a file are one group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    own = [("group", video.group) if video.group else ("video", video.id) for video in videos]
    files = [("file", video.source_hash) if video.source_hash else key for video, key in zip(videos, own, strict=True)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*own, *files]))}
    rows, columns = [numbers[key] for key in own], [numbers[key] for key in files]
    edges = coo_array(([1] * len(own), (rows, columns)), shape=(len(numbers), len(numbers)))
    _, parts = connected_components(edges, directed=False)
    first: dict[int, tuple[str, str]] = {}
    for key in sorted(set(own)):
        first.setdefault(int(parts[numbers[key]]), key)
    return [first[int(parts[number])] for number in rows]


def _groups_in_order(
    videos: Sequence[StoredVideo], groups: Sequence[tuple[str, str]], seed: int
) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield groups that may be held out, and their numbers of videos, in the order in which they are held out.

    The next group is always from the class with the smallest fraction held out so far. Of its first few groups, in an
    order that depends only on names and the seed, it is the one that keeps the fractions of all classes most equal. A
    group that would take the last training video of a class is never held out.
    """
    sizes: dict[tuple[str, str], Counter[str]] = {}
    for video, group in zip(videos, groups, strict=True):
        sizes.setdefault(group, Counter())[video.class_name] += 1
    total = Counter(video.class_name for video in videos)
    waiting: dict[str, list[tuple[str, str]]] = {name: [] for name in sorted(total)}
    for group in sorted(sizes, key=lambda group: _hash(seed, *group), reverse=True):
        for name in sizes[group]:
            waiting[name].append(group)  # the last is the first in order
    held: Counter[str] = Counter()
    gone: set[tuple[str, str]] = set()
    ranks = {name: _hash(seed, "class", name) for name in waiting}
    while waiting:
        name = min(waiting, key=lambda name: (held[name] / total[name], ranks[name]))
        candidates = _take_candidates(waiting[name], gone, sizes, held, total)
        if not candidates:
            del waiting[name]
            continue
        best = min(candidates, key=lambda group: _spread(sizes[group], held, total))
        gone.add(best)
        held += sizes[best]
        yield best, sizes[best].total()


def _take_candidates(
    queue: list[tuple[str, str]],
    gone: set[tuple[str, str]],
    sizes: dict[tuple[str, str], "Counter[str]"],
    held: "Counter[str]",
    total: "Counter[str]",
) -> list[tuple[str, str]]:
    """Return the first groups in a class's queue that may be held out; remove those that no longer may."""
    found: list[tuple[str, str]] = []
    while queue and len(found) < _CANDIDATES:
        group = queue.pop()
        if group in gone:
            continue
        if any(held[name] + size >= total[name] for name, size in sizes[group].items()):
            gone.add(group)
            continue
        found.append(group)
    queue.extend(reversed(found))
    return found


def _spread(size: "Counter[str]", held: "Counter[str]", total: "Counter[str]") -> float:
    """Return how uneven the fractions of a group's classes become if it is held out."""
    fractions = [(held[name] + count) / total[name] for name, count in size.items()]
    return max(fractions, default=inf) - min(fractions, default=0) + max(fractions, default=0)


def _scarcest(videos: Sequence[StoredVideo], groups: Sequence[tuple[str, str]]) -> str:
    """Return the class whose videos are in the fewest groups."""
    found: dict[str, set[tuple[str, str]]] = {}
    for video, group in zip(videos, groups, strict=True):
        found.setdefault(video.class_name, set()).add(group)
    return min(sorted(found), key=lambda name: len(found[name]))


def _hash(seed: int, *words: str) -> bytes:
    """Return pseudo-random bytes, the same on every machine."""
    return blake2b("\0".join([str(seed), *words]).encode(), digest_size=8).digest()
