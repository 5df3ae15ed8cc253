"""Frame rates of a set's videos; flow per frame depends on them."""

from collections import Counter
from collections.abc import Iterator, Sequence

from stmn.store.format.read import Store

#: rates that differ by more than this factor are reported
_LARGEST_RATIO = 1.2
#: suggest a rate that at least this fraction of videos reaches: in slower videos frames would repeat
_REACH = 0.9


def count_rates(store: Store) -> list[tuple[float, int]]:
    """Return the rates of the prepared videos, rounded to hundredths, with numbers of videos; most common first."""
    rates = Counter(round(video.fps, 2) for video in store.videos.values() if video.status == "ok" and video.fps > 0)
    return sorted(rates.items(), key=lambda pair: (-pair[1], pair[0]))


def find_common_rate(rates: Sequence[tuple[float, int]]) -> float | None:
    """Return a common rate for videos whose own rates differ a lot, so that flow does too; None if they don't.

    Args:
        rates: Frames per second, and the number of videos with each rate.
    """
    lowest, highest = min(rates, default=(0, 0))[0], max(rates, default=(0, 0))[0]
    if not lowest or highest <= _LARGEST_RATIO * lowest:
        return None
    videos = sum(count for _, count in rates)
    return max(r for r, _ in rates if sum(n for rate, n in rates if rate >= r) >= _REACH * videos)


def describe_rates(store: Store) -> Iterator[str]:
    """Yield a line if the rates differ so much that the same motion gives very different flow."""
    rates = count_rates(store)
    if common := find_common_rate(rates):
        lowest, highest = min(rates)[0], max(rates)[0]
        yield (
            f"videos have {lowest:g} to {highest:g} frames per second, so the flow of one motion differs up to "
            f"{highest / lowest:.1f} times: prepare --fps {common:g} makes a set of one rate"
        )
