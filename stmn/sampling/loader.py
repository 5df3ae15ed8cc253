"""Batches of samples, made ahead by threads.

Threads, not processes, because decoding and cutting release the GIL. So nothing has to be handed over between
processes, all threads share the store's cache, and the first batch does not wait for processes to start.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from stmn.sampling.buffers import BufferPool
from stmn.sampling.clips import Clips
from stmn.sampling.order import Index

#: batches made ahead: memory holds these and the one in use, however many threads there are
_AHEAD = 2
#: buffers that a pool keeps, for two modalities: batches made ahead, in use, and asked for before that one is freed
BUFFERS = 2 * (_AHEAD + 2)


def load_batches(
    clips: Clips, batches: Iterable[Sequence[Index]], threads: int, buffers: BufferPool | None = None
) -> Iterator[dict[str, Tensor]]:
    """Make batches in order, some of them ahead.

    Args:
        clips: where samples come from.
        batches: the indices of each batch.
        threads: threads that make batches; with 0 each batch is made when it is asked for.
        buffers: the pool of an earlier call, for many short ones in turn; by default a new one.

    Yields:
        `rgb` (B, T, 3, H, W) and/or `flow` (B, T, 2L, H, W), float32, and `label` (B,) int64.

    Raises:
        DataError: a picture is damaged; whatever goes wrong in a thread is raised here.
    """
    buffers = buffers or BufferPool(BUFFERS)
    if not threads:
        for indices in batches:
            batch = clips.make_batch(len(indices), buffers)
            for row, index in enumerate(indices):
                clips.fill_row(batch, row, index)
            yield batch
        return
    pool = ThreadPoolExecutor(threads, "loader")
    waiting: deque[tuple[dict[str, Tensor], list[Future[None]]]] = deque()
    try:
        for indices in batches:
            batch = clips.make_batch(len(indices), buffers)
            waiting.append((batch, [pool.submit(clips.fill_row, batch, row, i) for row, i in enumerate(indices)]))
            if len(waiting) > _AHEAD:
                yield _finish(*waiting.popleft())
        while waiting:
            yield _finish(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finish(batch: dict[str, Tensor], rows: list[Future[None]]) -> dict[str, Tensor]:
    """The batch, once its rows are filled."""
    for row in rows:
        row.result()
    return batch
