"""The processes that train one network together, under torchrun.

They agree on everything that is not a function of the step: what is up to date, when to stop, whether a loss is finite.
"""

import atexit
import json
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stmn.errors import StmnError, UsageError
from stmn.runtime import torchrun
from stmn.runtime.device import Device

#: longer than any step: a process that is lost is noticed by its closed connection, or by torchrun
PATIENCE = timedelta(hours=2)
#: seconds between looks for what the first process has to say
POLL = 0.1


class Ranks:
    """This process among `size` that do the same; without torchrun the only one, for which all of this is nothing."""

    def __init__(self, rank: int = 0, size: int = 1, store: dist.Store | None = None) -> None:
        self.rank, self.size, self.store = rank, size, store
        self._broadcasts = 0
        self._reports: bool | None = None

    @property
    def first(self) -> bool:
        """True in the one process that writes and prints."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Return the first process's `value` (JSON) in every process; waits as long as the first one takes."""
        if self.store is None:
            return value
        self._broadcasts += 1
        key = f"broadcast/{self._broadcasts}"
        if self.first:
            self.store.set(key, json.dumps(value))
            return value
        while not self.store.check([key]):  # a blocking wait would not hear signals
            time.sleep(POLL)
        return json.loads(self.store.get(key))

    def barrier(self) -> None:
        """Wait until the first process gets here."""
        self.broadcast(None)

    def join(self, device: Device) -> None:
        """Make the group that adds up gradients: NCCL between GPUs, gloo otherwise."""
        if self.store is None or dist.is_initialized():
            return
        if device.is_cuda:
            torch.cuda.set_device(device.device)
        with report_lost_rank():
            dist.init_process_group(
                "nccl" if device.is_cuda else "gloo",
                store=dist.PrefixStore("group", self.store),
                rank=self.rank,
                world_size=self.size,
                timeout=PATIENCE,
            )
        atexit.register(dist.destroy_process_group)

    def wrap(self, learner: nn.Module, device: Device) -> nn.Module:
        """`learner`, whose gradients are means over all processes once a backward pass is outside `no_sync`."""
        if self.size == 1:
            return learner
        with warnings.catch_warnings():
            # what torch 2.14 has in place of `broadcast_buffers`, earlier versions don't know
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                learner,
                device_ids=[device.device] if device.is_cuda else None,
                broadcast_buffers=False,  # running statistics are folded, not overwritten
                gradient_as_bucket_view=True,
            )

    def no_sync(self, learner: nn.Module, when: bool) -> AbstractContextManager[Any]:
        """Within it, and `when` true, backward passes add to this process's gradients alone."""
        return learner.no_sync() if when and isinstance(learner, DistributedDataParallel) else nullcontext()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def share(self, count: int) -> range:
        """This process's contiguous share of `count` pieces of work. Raises `UsageError` when some would have none."""
        if count < self.size:
            raise UsageError(
                f"a step has {count} micro-batch{'es' if count > 1 else ''} for {self.size} processes: "
                f"take a smaller --micro-batch or fewer processes"
            )
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def reports_error(self) -> bool:
        """True in the first process that asks: one process alone prints an error that stops them all."""
        if self._reports is None:
            try:
                self._reports = self.store is None or self.store.add("reported", 1) == 1
            except RuntimeError:  # the process that keeps the store is gone
                self._reports = self.first
        return self._reports


@lru_cache(maxsize=1)
def current_ranks() -> Ranks:
    """This process among those that torchrun started. Waits until all of them are there."""
    if torchrun.size() == 1:
        return ALONE
    with report_lost_rank():
        store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
        return Ranks(rank, size, dist.PrefixStore("stmn", store))


@contextmanager
def report_lost_rank() -> Iterator[None]:
    """Turn what torch says when another process is gone into a `StmnError`."""
    try:
        yield
    except RuntimeError as error:
        if torchrun.size() > 1 and is_lost(error):
            raise StmnError(
                f"another of the {torchrun.size()} processes has ended, so this one can't go on; what came after the "
                f"last saved state is lost, the same command continues there"
            ) from error
        raise


def is_lost(error: RuntimeError) -> bool:
    """True when an error of torch is about the connection to another process."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in ("gloo", "nccl", "connection"))


#: the only process
ALONE = Ranks()
