"""The environment that torchrun gives to each of its processes. Nothing here imports torch."""

import os
from math import ceil

from stmn.errors import UsageError

#: set for each process by torchrun, or by another program that starts the processes
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def size() -> int:
    """Return how many processes run this command together; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _NEEDED) else 1


def rank() -> int:
    """Return this process's number among them, from 0. Process 0 is the one that writes and prints."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def local_rank() -> int:
    """Return this process's number among those on its machine, which is also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", rank())) if size() > 1 else 0


def local_size() -> int:
    """Return how many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", size())) if size() > 1 else 1


def check_micro_batches(batch: int, micro_batch: int, processes: int) -> None:
    """Make sure that each process has a micro-batch of every step.

    Args:
        batch: videos per step.
        micro_batch: videos in memory at a time.
        processes: number of processes that train together.

    Raises:
        UsageError: there are fewer micro-batches than processes; the message says which micro-batch to set.
    """
    count = ceil(batch / micro_batch)
    if count >= processes:
        return
    remedy = f"set micro_batch = {batch // processes} or less" if batch >= processes else "set a larger batch"
    made, fewer = (f"{count} micro-batches", f"{count} processes") if count > 1 else ("1 micro-batch", "one process")
    raise UsageError(
        f"a step has {made} (batch = {batch}, micro_batch = {micro_batch}) for {processes} processes: {remedy}, or use "
        f"{fewer}"
    )
