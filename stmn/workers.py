"""Worker processes that may crash or hang without taking the work down.

Each worker takes one job at a time. A worker that dies, or takes longer than allowed, costs the job it had; another
process takes its place. One that dies before it is ready for a job ends all work: so would the next. Workers end with
the process that started them, however that ends.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from stmn.errors import StmnError

#: called once in the worker with its index; gives the function that does a job
Setup = Callable[[int], Callable[[Any], Any]]


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `result`, or `error` (a line for a person); `lost` when the worker died or was killed."""

    job: Any
    result: Any = None
    error: str = ""
    lost: bool = False


class FatalJobError(StmnError):
    """Raised by a job to stop all work: a full disk, say."""


def serve(connection: Connection, setup: Setup, index: int) -> None:
    """The worker's loop: until the parent closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        try:
            handle = setup(index)
        except Exception as error:
            connection.send(
                ("fatal", str(error) if isinstance(error, StmnError) else f"{type(error).__name__}: {error}")
            )
            return
        connection.send(("ready", None))
        while True:
            job = connection.recv()
            try:
                connection.send(("ok", handle(job)))
            except FatalJobError as error:
                connection.send(("fatal", str(error)))
            except Exception as error:
                text = str(error) if isinstance(error, StmnError) else f"{type(error).__name__}: {error}"
                connection.send(("error", text))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def end_with_parent() -> None:
    """Wait until the parent is gone, killed perhaps, and end this process in the middle of whatever it does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Worker:
    """One process and the job it has."""

    def __init__(self, setup: Setup, index: int) -> None:
        # forkserver: torch is imported once, and no thread or decoder of this process is inherited
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["stmn.workers_preload"])
        self.index = index
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, setup, index), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Any = None
        self.started = 0.0
        self.ready = False

    def give(self, job: Any) -> None:
        """Start a job."""
        self.job, self.started = job, time.monotonic()
        self.connection.send(job)

    def stop(self) -> None:
        """Kill the process; what it had not committed is gone."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_jobs(jobs: deque[Any], setup: Setup, workers: int, timeout: float) -> Iterator[Outcome]:
    """Do all jobs on `workers` processes; yield an `Outcome` each, as they end.

    The caller may append to `jobs` while iterating. `timeout` seconds is the most that a job may take.
    Raises `FatalJobError` when a job does.
    """
    crew: list[Worker] = []
    try:
        while jobs or any(worker.job is not None for worker in crew):
            while len(crew) < min(workers, len(jobs) + sum(worker.job is not None for worker in crew)):
                free = next(i for i in range(workers) if i not in {worker.index for worker in crew})
                crew.append(Worker(setup, free))
            for worker in crew:
                if worker.job is None and jobs:
                    worker.give(jobs.popleft())
            busy = [worker for worker in crew if worker.job is not None]
            ready = set(wait([worker.connection for worker in busy], timeout=0.5))
            for worker in busy:
                outcome = collect(worker, worker.connection in ready, timeout)
                if outcome is None:
                    continue
                if outcome.lost:
                    worker.stop()
                    crew.remove(worker)
                worker.job = None
                yield outcome
    finally:
        for worker in crew:
            worker.stop()


def collect(worker: Worker, ready: bool, timeout: float) -> Outcome | None:
    """What became of a worker's job, or None while it is still at it."""
    if ready:
        try:
            kind, value = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            if not worker.ready:
                raise FatalJobError(f"worker processes can't start ({exit_words(worker.process.exitcode)})") from None
            return Outcome(
                worker.job, error=f"its worker process died ({exit_words(worker.process.exitcode)})", lost=True
            )
        if kind == "fatal":
            raise FatalJobError(value)
        if kind == "ready":  # its first job starts now
            worker.ready, worker.started = True, time.monotonic()
            return None
        return Outcome(worker.job, result=value) if kind == "ok" else Outcome(worker.job, error=value)
    if worker.ready and time.monotonic() - worker.started > timeout:
        return Outcome(worker.job, error=f"took longer than {timeout:g} s", lost=True)
    return None


def exit_words(code: int | None) -> str:
    """ "SIGSEGV" for -11, "exit code 3" for 3."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
