"""Batches of samples, made ahead of time by threads.

Threads, not processes, because decoding and cutting release the GIL. So nothing has to be copied between processes,
all threads share the store's cache, and the first batch does not wait for processes to start.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import ceil
from typing import TypeVar

from torch import Tensor

from stmn.runtime.device import Device
from stmn.runtime.memory import pinning
from stmn.runtime.sending import send_ahead
from stmn.sampling.boxes import BoxBatch
from stmn.sampling.buffers import BufferPool
from stmn.sampling.clips import Clips
from stmn.sampling.order import Index

#: batches made ahead: memory holds these and the one in use; more only if threads would otherwise be idle
_AHEAD = 2
#: buffers in a pool, for two modalities: batches made ahead, one in use, and one asked for before that is freed
BUFFERS = 2 * (_AHEAD + 2)
_Batch = TypeVar("_Batch")
_Job = Callable[[], None]


def load_batches(
    clips: Clips, batches: Iterable[Sequence[Index]], threads: int, buffers: BufferPool | None = None,
    device: Device | None = None,
) -> Iterator[dict[str, Tensor]]:  # fmt: skip
    """Make batches in order, some of them ahead.

    Args:
        clips: where samples come from.
        batches: the indices of each batch.
        threads: threads that make batches; with 0 each batch is made when it is asked for.
        buffers: the pool of an earlier call, to share it between many short calls; by default a new one.
        device: where batches are used. If it cuts pictures itself, it gets them as bytes, and batches are on the
            device. Otherwise they are in host memory.

    Yields:
        `rgb` (B, T, 3, H, W) and/or `flow` (B, T, 2L, H, W), float32, and `label` (B,) int64.

    Raises:
        DataError: a picture is damaged. Every error in a thread is raised here.
    """
    if device and device.cuts_pictures:

        def start_boxes(indices: Sequence[Index]) -> tuple[BoxBatch, list[_Job]]:
            with pinning("a batch's pictures"):
                batch = BoxBatch(clips, indices, pin=device.overlaps_copies)
            return batch, batch.jobs

        made = _make_in_order(start_boxes, batches, threads)
        yield from send_ahead(made, lambda batch: batch.cut(device), lambda sent: sent.values(), device)
        return
    pool = buffers or BufferPool(BUFFERS)

    def start(indices: Sequence[Index]) -> tuple[dict[str, Tensor], list[_Job]]:
        batch = clips.make_batch(len(indices), pool)
        return batch, [partial(clips.fill_row, batch, row, index) for row, index in enumerate(indices)]

    yield from _make_in_order(start, batches, threads)


def _make_in_order(
    start: Callable[[Sequence[Index]], tuple[_Batch, list[_Job]]], batches: Iterable[Sequence[Index]], threads: int
) -> Iterator[_Batch]:
    """Yield batches in order, some of them made ahead.

    Args:
        start: returns an empty batch and the jobs that fill it.
        batches: the indices of each batch.
        threads: threads that do the jobs; with 0, the caller's thread does.
    """
    if not threads:
        for batch, jobs in map(start, batches):
            for job in jobs:
                job()
            yield batch
        return
    pool = ThreadPoolExecutor(threads, "loader")
    waiting: deque[tuple[_Batch, list[Future[None]]]] = deque()
    try:
        for batch, jobs in map(start, batches):
            waiting.append((batch, [pool.submit(job) for job in jobs]))
            if len(waiting) > max(_AHEAD, ceil(threads / max(1, len(jobs)))):
                yield _finish(*waiting.popleft())
        while waiting:
            yield _finish(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finish(batch: _Batch, jobs: Iterable[Future[None]]) -> _Batch:
    """Wait until a batch is filled, and return it."""
    for job in jobs:
        job.result()
    return batch
