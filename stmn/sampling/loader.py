"""Batches of samples, made ahead by threads.

Threads, not processes: decoding and cutting are calls that let other threads run, so nothing has to be handed over
between processes, all threads share the store's cache, and the first batch does not wait for processes to start.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from stmn.sampling.clips import BufferPool, Clips, Index

#: batches made beforehand: memory holds these and the one in use, however many threads there are
AHEAD = 2


#: what a loader's memory keeps, of two modalities: batches made ahead, in use, and asked for before that is let go
KEPT = 2 * (AHEAD + 2)


def load_batches(
    clips: Clips, batches: Iterable[Sequence[Index]], threads: int, memory: BufferPool | None = None
) -> Iterator[dict[str, Tensor]]:
    """Batches {rgb (B, T, 3, H, W), flow (B, T, 2L, H, W), label (B,)} in their order, made by `threads` threads.

    With 0 threads each batch is made when it is asked for. What goes wrong in a thread is raised here. `memory` is that
    of an earlier loader, for many short ones in turn; otherwise it has its own.
    """
    memory = memory or BufferPool(KEPT)
    if not threads:
        for indices in batches:
            batch = clips.empty(len(indices), memory)
            for row, index in enumerate(indices):
                clips.fill(batch, row, index)
            yield batch
        return
    pool = ThreadPoolExecutor(threads, "loader")
    waiting: deque[tuple[dict[str, Tensor], list[Future[None]]]] = deque()
    try:
        for indices in batches:
            batch = clips.empty(len(indices), memory)
            waiting.append((batch, [pool.submit(clips.fill, batch, row, i) for row, i in enumerate(indices)]))
            if len(waiting) > AHEAD:
                yield finished(*waiting.popleft())
        while waiting:
            yield finished(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def finished(batch: dict[str, Tensor], work: list[Future[None]]) -> dict[str, Tensor]:
    """The batch, when its rows are filled."""
    for row in work:
        row.result()
    return batch
