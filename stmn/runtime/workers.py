"""Worker processes that may crash or hang without taking the work down.

Each worker takes one job at a time. A worker that dies, or takes longer than allowed, costs the job it had; another
process takes its place. One that dies before it is ready for a job ends all work: so would the next. Workers end with
the process that started them, however that ends.
"""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any, Protocol

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


def serve(connection: Connection) -> None:
    """The worker's loop: takes a `Setup` and an index, then jobs, until the parent closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    inbox: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=receive, args=(connection, inbox), daemon=True).start()
    try:
        setup, index = pickle.loads(inbox.get())
        handle = setup(index)
    except Exception as error:
        connection.send(("fatal", describe_error(error)))
        return
    connection.send(("ready", None))
    while True:
        connection.send_bytes(answer(handle, inbox.get()))


def receive(connection: Connection, inbox: "SimpleQueue[bytes]") -> None:
    """Take messages in until the parent is gone, killed perhaps; then end this process, whatever it is doing."""
    while True:
        try:
            inbox.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)


def answer(handle: Callable[[Any], Any], message: bytes) -> bytes:
    """Do the job of a message; what is said of it, pickled."""
    try:
        return pickle.dumps(("ok", handle(pickle.loads(message))))
    except FatalJobError as error:
        return pickle.dumps(("fatal", str(error)))
    except Exception as error:
        return pickle.dumps(("error", describe_error(error)))


def describe_error(error: Exception) -> str:
    """An error as a line for a person: with its type where it is none of ours."""
    return str(error) if isinstance(error, StmnError) else f"{type(error).__name__}: {error}"


class Process(Protocol):
    """A worker's process, however it was started."""

    @property
    def exitcode(self) -> int | None:
        """None while it runs, the negative number of the signal that ended it."""

    def kill(self) -> None:
        """End it at once."""

    def join(self) -> None:
        """Wait for its end."""


def forked(theirs: Connection) -> Process:
    """A worker's process from multiprocessing's fork server.

    There torch is imported once, and no thread or decoder of this process is inherited.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stmn.runtime.workers_preload"])
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    return process


class Executed:
    """A worker's process from a new interpreter: slower to start, but a daemonic process may start it too."""

    def __init__(self, theirs: Connection) -> None:
        number = theirs.fileno()
        code = (
            "import stmn.runtime.workers_preload; from stmn.runtime.workers import Connection, serve; "
            f"serve(Connection({number}))"
        )
        self.process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[number], stdin=subprocess.DEVNULL)

    @property
    def exitcode(self) -> int | None:
        """None while it runs, the negative number of the signal that ended it."""
        return self.process.poll()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def join(self) -> None:
        """Wait for its end."""
        self.process.wait()


class Worker:
    """One process and the job it has; `start` starts a process that serves one end of a pipe."""

    def __init__(self, setup: Setup, index: int, start: Callable[[Connection], Process] = forked) -> None:
        self.index = index
        self.connection, theirs = multiprocessing.Pipe()
        self.process = start(theirs)
        theirs.close()
        self.job: Any = None
        self.started = 0.0
        self.ready = False
        self.send((setup, index))

    def send(self, message: Any) -> None:
        """Tell the process; that it died shows when its answer is collected."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)

    def give(self, job: Any) -> None:
        """Start a job."""
        self.job, self.started = job, time.monotonic()
        self.send(job)

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


def count_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
