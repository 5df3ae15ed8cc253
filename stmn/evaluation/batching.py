"""Which videos share a forward pass, and reading them ahead of it."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from stmn.evaluation.protocol import Protocol
from stmn.sampling.positions import spread_positions
from stmn.store.format.read import StoredVideo

#: a notice is printed if waiting takes at least this share of a test, and the test at least this many seconds
LONG_WAIT, LONG_TEST = 0.2, 60.0
_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


def group_by_shape(
    videos: Sequence[StoredVideo], stack_length: int, protocol: Protocol, most: int
) -> list[list[StoredVideo]]:
    """Group videos of the same size and number of chunks, keeping the order of the list as far as possible.

    Args:
        videos: The videos.
        stack_length: L, the flow fields in a stack.
        protocol: Gives the number of chunks and the short side.
        most: Largest number of pixels in all chunks of a group; a larger video gets its own group.
    """
    groups: list[list[StoredVideo]] = []
    open_groups: dict[tuple[int, int, int], list[StoredVideo]] = {}
    for video in videos:
        chunks = len(spread_positions(video.frames, stack_length, protocol.chunks))
        scale = protocol.short_side / min(video.height, video.width)
        pixels = chunks * video.height * video.width * scale**2
        shape = chunks, video.height, video.width
        if shape not in open_groups:
            groups.append(open_groups.setdefault(shape, []))
        open_groups[shape].append(video)
        if (len(open_groups[shape]) + 1) * pixels > most:
            del open_groups[shape]
    return groups


def read_ahead(
    read: Callable[[_Given], _Result], groups: Sequence[Sequence[_Given]], threads: int
) -> Iterator[list[_Result]]:
    """Yield the results of `read` for each group, in order; threads read ahead while the caller works on a group.

    Args:
        read: Reads one.
        groups: What to read.
        threads: Number of threads, and of items that are read ahead, in whole groups.
    """
    waiting: deque[list[Future[_Result]]] = deque()
    with ThreadPoolExecutor(threads, "reader") as pool:
        try:
            for group in groups:
                waiting.append([pool.submit(read, item) for item in group])
                if sum(map(len, waiting)) - len(waiting[0]) >= threads:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class Waiting:
    """Measures how much of a test is spent waiting for its videos."""

    def __init__(self) -> None:
        self._started, self._waited = time.monotonic(), 0.0

    def watch(self, groups: Iterator[_Result]) -> Iterator[_Result]:
        """Yield the same groups, and measure the time until each arrives."""
        while True:
            started = time.monotonic()
            try:
                group = next(groups)
            except StopIteration:
                return
            self._waited += time.monotonic() - started
            yield group

    def describe(self) -> str:
        """Return a line about a long wait, with what helps; empty if there was none."""
        seconds = time.monotonic() - self._started
        share = self._waited / max(seconds, 1e-9)
        if seconds < LONG_TEST or share < LONG_WAIT:
            return ""
        return (
            f"waiting for videos took {100 * share:.0f} % of the time: more --loader-threads use cores that are idle, "
            f"and a local disk reads faster"
        )
