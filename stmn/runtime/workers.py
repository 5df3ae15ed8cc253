"""Worker processes that may crash or hang without stopping the work.

Each worker does one job at a time, and reports progress. If it dies, or reports nothing for longer than allowed, only
that job is lost, and a new process takes its place. If it dies before it is ready for a job, all work ends, because the
next worker would die too. Workers end with the process that started them, however that ends.
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
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from queue import SimpleQueue
from typing import Any, Protocol

from stmn.errors import StmnError, message_of
from stmn.runtime.memory import find_shortage
from stmn.runtime.notices import notice, notices_to
from stmn.runtime.platforms import MOST_WORKERS, PASSES_DESCRIPTORS, has_fork_server

#: the module that worker processes import before their first job: it imports torch and the decoder
_PRELOAD = "stmn.runtime.preload"

#: called once in a worker with the worker's index; returns the function that does a job
Setup = Callable[[int], Callable[[Any], Any]]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Attributes:
        job: the job.
        result: the job's result, if it succeeded.
        error: why it failed, in one line; empty if it succeeded.
        lost: True if the worker died or was killed during it.
    """

    job: Any
    result: Any = None
    error: str = ""
    lost: bool = False


class FatalJobError(StmnError):
    """Raised by a job to stop all work, for example if the disk is full."""


@dataclass
class _Parent:
    """The connection to the parent process, and the time of the last report to it; None outside a worker."""

    connection: Connection | None = None
    told: float = 0.0


_parent = _Parent()


def report_progress() -> None:
    """Report progress to the parent process, at most once per second; does nothing outside a worker."""
    now = time.monotonic()
    if _parent.connection and now - _parent.told >= 1:
        _parent.told = now
        _parent.connection.send(("busy", None))


def serve(connection: Connection) -> None:
    """Run the main loop of a worker process: receive a `Setup` and an index, then jobs, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    inbox: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True).start()
    with notices_to(lambda line: connection.send(("notice", line))):  # the parent prints each once
        try:
            setup, index = pickle.loads(inbox.get())
            do_job = setup(index)
        except BaseException as error:
            connection.send(("fatal", describe_error(error)))
            return
        connection.send(("ready", None))
        _parent.connection = connection
        while True:
            connection.send_bytes(_answer(do_job, inbox.get()))


def _receive(connection: Connection, inbox: "SimpleQueue[bytes]") -> None:
    """Put messages into the inbox; when the parent is gone, end this process at once, whatever it is doing."""
    while True:
        try:
            inbox.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)


def _answer(do_job: Callable[[Any], Any], message: bytes) -> bytes:
    """Do the job in a message; return the pickled answer."""
    try:
        return pickle.dumps(("ok", do_job(pickle.loads(message))))
    except FatalJobError as error:
        return pickle.dumps(("fatal", str(error)))
    except BaseException as error:  # `sys.exit` in a plugin fails only its job
        return pickle.dumps(("error", describe_error(error)))


def describe_error(error: BaseException) -> str:
    """Describe an error in a line, with its type unless it is a `StmnError` or a memory shortage."""
    if shortage := find_shortage(error):
        return str(shortage)
    return str(error) if isinstance(error, StmnError) else f"{type(error).__name__}: {message_of(error)}"


class Process(Protocol):
    """A worker's process, however it was started."""

    @property
    def exitcode(self) -> int | None:
        """None while it runs; the negative number of the signal that ended it."""

    def kill(self) -> None:
        """End it at once."""

    def join(self) -> None:
        """Wait for its end."""


def start_process(connection: Connection) -> Process:
    """Start a worker process: from multiprocessing's fork server, or in a new interpreter if there is none.

    The fork server imports torch once, and its children inherit no thread or decoder of this process.
    """
    return _start(_fork_server(), serve, connection) if has_fork_server() else _spawn(connection, preload=True)


def warm_up() -> None:
    """Start the fork server, if there is one, so that it imports torch while this process does something else."""
    if has_fork_server():
        from multiprocessing import forkserver

        _fork_server()
        forkserver.ensure_running()


def _fork_server() -> BaseContext:
    """Return the context that starts worker processes from the fork server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_PRELOAD])
    return context


def _spawn(connection: Connection, preload: bool) -> Process:
    """Start a worker process in a new interpreter."""
    return _start(multiprocessing.get_context("spawn"), _preload_and_serve if preload else serve, connection)


def _start(context: BaseContext, serve_with: Callable[[Connection], None], connection: Connection) -> Process:
    """Start a process with multiprocessing."""
    process: multiprocessing.Process = context.Process(target=serve_with, args=(connection,), daemon=True)  # type: ignore[attr-defined]
    process.start()
    return process


def _preload_and_serve(connection: Connection) -> None:
    """Run the main loop of a worker process that has imported nothing yet."""
    import_module(_PRELOAD)
    serve(connection)


def spawn_process(connection: Connection, preload: bool = True) -> Process:
    """Start a worker process in a new interpreter: slower, but a daemonic process can do it too, except on Windows.

    Args:
        connection: the worker's end of a pipe.
        preload: import torch at once.
    """
    return _NewInterpreter(connection, preload) if PASSES_DESCRIPTORS else _spawn(connection, preload)


class _NewInterpreter:
    """A worker process that gets the number of its end of a pipe."""

    def __init__(self, connection: Connection, preload: bool) -> None:
        number = connection.fileno()
        code = (
            "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "  # the parent handles Ctrl-C
            + (f"import {_PRELOAD}; " if preload else "")
            + f"from stmn.runtime.workers import Connection, serve; serve(Connection({number}))"
        )
        self._process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[number], stdin=subprocess.DEVNULL)

    @property
    def exitcode(self) -> int | None:
        """None while it runs; the negative number of the signal that ended it."""
        return self._process.poll()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def join(self) -> None:
        """Wait for its end."""
        self._process.wait()


class Worker:
    """A worker process, seen from its parent, and its current job.

    Args:
        setup: called in the process; returns the function that does a job.
        index: number of the worker, passed to `setup`.
        start: starts a process that serves one end of a pipe.
    """

    def __init__(self, setup: Setup, index: int, start: Callable[[Connection], Process] = start_process) -> None:
        self.index = index
        self.connection, theirs = multiprocessing.Pipe()
        self.process = start(theirs)
        theirs.close()
        self.job: Any = None
        self._heard = 0.0
        self._ready = False
        self._send((setup, index))

    def give(self, job: Any) -> None:
        """Start a job."""
        self.job, self._heard = job, time.monotonic()
        self._send(job)

    def collect(self, readable: bool, timeout: float) -> Outcome | None:
        """Return the outcome of the job, or None while the worker is busy with it.

        Args:
            readable: whether the process has sent a message.
            timeout: longest time in seconds that a job may go without progress.

        Raises:
            FatalJobError: the job raised it, or the process can't start.
        """
        if not readable:
            if self._ready and time.monotonic() - self._heard > timeout:
                return Outcome(self.job, error=f"no progress for {timeout:g} s (--video-timeout)", lost=True)
            return None
        try:
            kind, value = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            how = _describe_exit(self.process.exitcode)
            if not self._ready:
                raise FatalJobError(f"worker processes can't start ({how})") from None
            return Outcome(self.job, error=f"its worker process died ({how})", lost=True)
        if kind == "fatal":
            raise FatalJobError(value)
        self._heard = time.monotonic()
        if kind == "notice":
            notice(value)
            return None
        if kind in ("ready", "busy"):  # its first job starts now, or makes progress
            self._ready = True
            return None
        return Outcome(self.job, result=value) if kind == "ok" else Outcome(self.job, error=value)

    def stop(self) -> None:
        """Kill the process; its uncommitted work is lost."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _send(self, message: Any) -> None:
        """Send a message; if the process has died, `collect` notices."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)


def run_jobs(jobs: deque[Any], setup: Setup, workers: int, timeout: float) -> Iterator[Outcome]:
    """Do all jobs on worker processes and yield an `Outcome` for each, in the order in which they finish.

    Args:
        jobs: the jobs, which must be picklable; the caller may append to them while iterating.
        setup: called in each process; returns the function that does a job.
        workers: number of processes; at most 60 on Windows.
        timeout: longest time in seconds that a job may go without progress.

    Raises:
        FatalJobError: a job raised it, or processes can't start.
    """
    pool: list[Worker] = []
    workers = min(workers, MOST_WORKERS)
    try:
        while jobs or any(worker.job is not None for worker in pool):
            while len(pool) < min(workers, len(jobs) + sum(worker.job is not None for worker in pool)):
                free = next(i for i in range(workers) if i not in {worker.index for worker in pool})
                pool.append(Worker(setup, free))
            for worker in pool:
                if worker.job is None and jobs:
                    worker.give(jobs.popleft())
            busy = [worker for worker in pool if worker.job is not None]
            readable = set(wait([worker.connection for worker in busy], timeout=0.5))
            for worker in busy:
                outcome = worker.collect(worker.connection in readable, timeout)
                if outcome is None:
                    continue
                if outcome.lost:
                    worker.stop()
                    pool.remove(worker)
                worker.job = None
                yield outcome
    finally:
        for worker in pool:
            worker.stop()


def _describe_exit(code: int | None) -> str:
    """Describe an exit code: "SIGSEGV" for -11, "exit code 3" for 3."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
