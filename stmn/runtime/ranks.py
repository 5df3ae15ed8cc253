"""The processes that train one network together under torchrun.

They agree on everything that is not a function of the step: what is up to date, when to stop, if a loss is finite.
"""

import atexit
import json
import re
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
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from stmn.errors import StmnError, is_out_of_memory
from stmn.runtime import torchrun
from stmn.runtime.device import Device

#: longer than any step: a lost process is noticed by its closed connection, or torchrun ends the others
_TIMEOUT = timedelta(hours=2)
#: seconds between checks for a broadcast value
_POLL_SECONDS = 0.1
#: words in errors of gloo and NCCL when the other process is gone
_LOST = (
    "connection closed", "connection reset", "connection refused", "broken pipe", "remote process", "remoteerror",
    "timed out", "timeout", "communicator was aborted", "socket error",
)  # fmt: skip
_NCCL_ERROR = re.compile(r"NCCL error in:? [^,]*, ([^,(\n]*[^,(\n ])")


class Ranks:
    """This process among the `size` processes that run the same command; without torchrun it is the only one.

    With a single process, every method does nothing or returns its argument.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        store: torch's store that all processes can reach; None for a single process.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Store | None = None) -> None:
        self.rank, self.size = rank, size
        self._store = store
        self._broadcasts = 0
        self._reports: bool | None = None
        self._failed = False

    @property
    def first(self) -> bool:
        """True in the process that writes and prints."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Return the first process's `value` (JSON) in every process, however long the first one takes."""
        if self._store is None:
            return value
        self._broadcasts += 1
        key = f"broadcast/{self._broadcasts}"
        if self.first:
            self._store.set(key, json.dumps(value))
            return value
        while not self._store.check([key]):  # a blocking wait would not notice signals
            time.sleep(_POLL_SECONDS)
        return json.loads(self._store.get(key))

    def barrier(self) -> None:
        """Wait until the first process gets here."""
        self.broadcast(None)

    def join(self, device: Device) -> None:
        """Join the process group that sums gradients: NCCL between GPUs, gloo otherwise."""
        if self._store is None or dist.is_initialized():
            return
        if device.is_cuda:
            torch.cuda.set_device(device.device)
        with report_lost_rank():
            dist.init_process_group(
                "nccl" if device.is_cuda else "gloo",
                store=PrefixStore("group", self._store),
                rank=self.rank,
                world_size=self.size,
                timeout=_TIMEOUT,
            )
        atexit.register(self._leave)

    def _leave(self) -> None:
        """Leave the process group as this process ends, unless NCCL would wait for processes that wait for this one."""
        if dist.get_backend() != "nccl" or not self._failed:
            dist.destroy_process_group()

    def wrap(self, learner: nn.Module, device: Device) -> nn.Module:
        """Wrap a module so that a backward pass averages its gradients over processes, except within `no_sync`."""
        if self.size == 1:
            return learner
        with warnings.catch_warnings():
            # the replacement for `broadcast_buffers` came with torch 2.14, and earlier versions lack it
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                learner,
                device_ids=[device.device] if device.is_cuda else None,
                broadcast_buffers=False,  # running statistics are merged, not overwritten
                gradient_as_bucket_view=True,
            )

    def no_sync(self, learner: nn.Module, when: bool) -> AbstractContextManager[Any]:
        """Return a context in which, if `when`, backward passes add only to this process's gradients."""
        return learner.no_sync() if when and isinstance(learner, DistributedDataParallel) else nullcontext()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Return the sum of the processes' tensors, computed in place; all have the same shape.

        Raises:
            StmnError: another process has ended, or NCCL failed.
        """
        if self.size > 1:
            with report_lost_rank():
                dist.all_reduce(tensor)
        return tensor

    def share(self, count: int) -> range:
        """Return this process's contiguous share of `count` pieces of work."""
        return self.shares(count)[self.rank]

    def shares(self, count: int) -> list[range]:
        """Return the contiguous shares of all processes of `count` pieces of work."""
        return [range(rank * count // self.size, (rank + 1) * count // self.size) for rank in range(self.size)]

    def reports_error(self, all_know: bool = False) -> bool:
        """True in the first process that asks: only one process prints an error that stops them all.

        Args:
            all_know: the processes have agreed to stop, so none waits for another.
        """
        self._failed = not all_know
        if self._reports is None:
            try:
                self._reports = self._store is None or self._store.add("reported", 1) == 1
            except RuntimeError:  # the process that keeps the store is gone
                self._reports = self.first
        return self._reports


@lru_cache(maxsize=1)
def current_ranks() -> Ranks:
    """Return this process among those that torchrun started; waits until all have started."""
    if torchrun.size() == 1:
        return ALONE
    with report_lost_rank():
        store, rank, size = next(rendezvous("env://", timeout=_TIMEOUT))
        return Ranks(rank, size, PrefixStore("stmn", store))


@contextmanager
def report_lost_rank() -> Iterator[None]:
    """Turn torch's errors about the other processes, and NCCL's own, into a `StmnError` of one line.

    Memory shortages in NCCL are not changed.
    """
    try:
        yield
    except RuntimeError as error:
        if torchrun.size() == 1 or is_out_of_memory(error):
            raise
        if _is_lost_connection(error):
            raise StmnError(
                f"another of the {torchrun.size()} processes has ended, so this one can't continue; what came after "
                f"the last saved state is lost; rerun the command to continue from there"
            ) from error
        if isinstance(error, dist.DistBackendError) or "nccl" in str(error).lower():
            raise StmnError(f"NCCL failed: {_nccl_reason(str(error))}; NCCL_DEBUG=INFO makes it say more") from error
        raise


def _is_lost_connection(error: RuntimeError) -> bool:
    """True if an error of torch is about the connection to another process."""
    if isinstance(error, dist.DistNetworkError | dist.DistStoreError):
        return True
    if "CUDA error" in str(error):  # such as "the launch timed out": this process's own GPU
        return False
    return any(words in str(error).lower() for words in _LOST)


def _nccl_reason(text: str) -> str:
    """Return the reason in a message such as `NCCL error in: FILE:92, invalid usage (run with ...), NCCL version 2`."""
    before, _, last = text.partition("Last error:")
    if last.strip():
        return last.strip().splitlines()[0]
    found = _NCCL_ERROR.search(before)
    return found[1] if found else before.strip().splitlines()[0]


#: the only process
ALONE = Ranks()
