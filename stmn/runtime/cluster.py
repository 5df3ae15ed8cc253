"""The jobs of `stmn.runtime.workers` on a Dask cluster.

Each thread of a Dask worker gives its job to a separate process, so that a decoder that crashes or hangs costs only its
video, not the Dask worker. If a Dask worker dies, the scheduler gives its jobs to another one. Such a job may already
have been finished and is then done twice; the reader of the results has to expect that.

Jobs and results are sent as pickles, which run code where they are read: anyone who can reach a scheduler without
certificates can run code on its workers and clients. With `tls://` only those with a certificate can.
"""

import logging
import pickle
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib.metadata import version
from multiprocessing.connection import wait
from typing import Any

try:
    import distributed
    from distributed.comm.core import CommClosedError
    from distributed.diagnostics.plugin import WorkerPlugin
except ImportError as missing:
    from stmn.errors import MissingExtra

    raise MissingExtra("prepare --cluster", "distributed", "cluster") from missing

from stmn.errors import StmnError, UsageError
from stmn.runtime.files import digest
from stmn.runtime.workers import FatalJobError, Outcome, Setup, Worker, spawn_process

#: seconds to wait for a scheduler's answer
CONNECT_SECONDS = 10.0
#: seconds to wait for the first Dask worker
WORKER_SECONDS = 30.0
#: jobs sent to the cluster per thread: enough to keep all threads busy, few enough for any number of videos
_JOBS_PER_THREAD = 4

_ADDRESSES = "tcp://HOST:PORT or tls://HOST:PORT"

#: called with a unique name of a Dask worker; returns the set-up of its processes
ClusterSetup = Callable[[str], Setup]

# distributed's own annotations don't pass mypy --strict
_make_client: Callable[..., Any] = distributed.Client
_wait: Callable[..., Any] = distributed.wait


class _WorkerPool(WorkerPlugin):
    """The worker processes of one Dask worker: one per thread, each started with its first job.

    Args:
        setup: makes the set-up of the processes.
        timeout: longest time in seconds that a job may go without progress.
    """

    def __init__(self, setup: ClusterSetup, timeout: float) -> None:
        self._make_setup, self._timeout, self._version = setup, timeout, version("stmn")

    def setup(self, worker: distributed.Worker) -> None:
        """Set up the pool; Dask calls this before the Dask worker gets any job."""
        if self._version != version("stmn"):
            raise StmnError(f"the cluster's worker {worker.address} has stmn {version('stmn')}, not {self._version}")
        setup = self._make_setup(digest(worker.id))
        opened = getattr(setup, "opened", None)
        self._helpers = ExitStack()  # helper processes for all worker processes of this Dask worker
        self._setup = self._helpers.enter_context(opened(print)) if opened else setup
        self._lock = threading.Lock()
        self._closed = False
        self._idle: list[Worker] = []
        self._busy: dict[str, Worker] = {}
        self._indices: set[int] = set()

    def teardown(self, worker: distributed.Worker) -> None:
        """End all processes; Dask calls this when the Dask worker closes or the jobs are done."""
        with self._lock:
            self._closed = True
            for one in self._busy.values():
                one.process.kill()  # the thread that waits for it notices
                one.process.join()
            for one in self._idle:
                one.stop()
            self._idle.clear()
        self._helpers.close()

    def transition(self, key: Any, start: str, finish: str, **about: Any) -> None:
        """Stop a task that is no longer needed; Dask calls this when the state of a task changes."""
        if finish in ("cancelled", "released", "forgotten"):
            with self._lock:
                if worker := self._busy.get(str(key)):
                    worker.process.kill()
                    self._busy.pop(str(key))

    def do(self, key: str, job: Any) -> Outcome:
        """Do a job in one of the processes; `key` is the name of its Dask task."""
        with self._lock:
            if self._closed:
                raise distributed.Reschedule
            worker = self._idle.pop() if self._idle else self._start()
            self._busy[key] = worker
        worker.give(job)
        lost = True
        try:
            while (outcome := worker.collect(bool(wait([worker.connection], timeout=0.5)), self._timeout)) is None:
                continue
            lost = outcome.lost
        finally:
            with self._lock:
                stopped = self._closed or self._busy.pop(key, None) is None
                worker.job = None
                if lost or stopped:
                    worker.stop()
                    self._indices.discard(worker.index)
                else:
                    self._idle.append(worker)
            if stopped:  # for example because this Dask worker ends, which is not the job's fault
                raise distributed.Reschedule
        return outcome

    def _start(self) -> Worker:
        """Start another process, with the first free index."""
        index = next(number for number in range(len(self._indices) + 1) if number not in self._indices)
        self._indices.add(index)
        return Worker(self._setup, index, spawn_process)


def _do_job(pool: str, key: str, job: bytes) -> Outcome:
    """The task that Dask runs in a thread of a Dask worker."""
    plugin = distributed.get_worker().plugins[pool]
    assert isinstance(plugin, _WorkerPool)
    return plugin.do(key, pickle.loads(job))


def _connect(address: str) -> Any:
    """Connect to the scheduler at `address`; `UsageError` for a bad address, `StmnError` if nothing answers."""
    scheme, separator, _ = address.partition("://")
    if scheme not in ("tcp", "tls") or not separator:
        raise UsageError(f"cluster '{address}': give the address of a Dask scheduler as {_ADDRESSES}")
    _silence_dask()
    security = _read_certificates(address) if scheme == "tls" else distributed.Security()
    try:
        return _make_client(address, timeout=CONNECT_SECONDS, security=security)
    except (OSError, TimeoutError) as error:
        if security.require_encryption and scheme == "tcp":
            raise UsageError(f"cluster {address}: Dask's configuration asks for tls://") from error
        untrusted = ", or its certificate is not one of the CA's" if scheme == "tls" else ""
        start = f"dask scheduler{' --protocol tls' if scheme == 'tls' else ''}"
        raise StmnError(f"cluster {address}: no Dask scheduler answers{untrusted}; start one with: {start}") from error
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise UsageError(f"cluster '{address}': {error}; give it as {_ADDRESSES}") from error


def _read_certificates(address: str) -> Any:
    """Read the client certificates in Dask's configuration. Raises `UsageError` if they are unusable."""
    security = distributed.Security()
    names = {"tls_ca_file": "ca-file", "tls_client_cert": "client.cert", "tls_client_key": "client.key"}
    if missing := [key for name, key in names.items() if not getattr(security, name)]:
        keys = ", ".join(f"distributed.comm.tls.{key}" for key in missing)
        raise UsageError(f"cluster {address}: tls:// needs certificates: set {keys} in Dask's configuration")
    try:
        security.get_connection_args("client")
    except (OSError, ValueError) as error:  # a certificate that is missing, damaged, or not that of the key
        files = " or ".join(str(getattr(security, name)) for name in names)
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cluster {address}: a certificate can't be used, {files[:300]}: {why}") from error
    return security


def _silence_dask() -> None:
    """Hide Dask's own messages: this package reports each error once, in one line."""
    for name in ["distributed", *logging.root.manager.loggerDict]:
        if name.split(".")[0] == "distributed":  # Dask gives several loggers their own level and handler
            logging.getLogger(name).setLevel(logging.CRITICAL)


def check_cluster(address: str, say: Callable[[str], None]) -> None:
    """Make sure that a cluster is ready; waits up to `WORKER_SECONDS` for its first Dask worker.

    Args:
        address: address of the scheduler, as `tcp://HOST:PORT` or `tls://HOST:PORT`.
        say: called with a line if there is no Dask worker yet.

    Raises:
        UsageError: the address is malformed.
        StmnError: no scheduler answers, or it has no Dask worker.
    """
    with _connect(address) as client:
        _wait_for_worker(client, address, say)


def _wait_for_worker(client: Any, address: str, say: Callable[[str], None]) -> None:
    """Wait for the first Dask worker; `StmnError` if none comes."""
    if not client.nthreads():
        say(f"cluster {address}: no workers yet; waiting {WORKER_SECONDS:g} s for one")
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except (TimeoutError, OSError) as error:
        raise StmnError(f"cluster {address}: it has no workers; start some with: dask worker {address}") from error


def run_on_cluster(
    jobs: deque[Any], setup: ClusterSetup, address: str, name: str, timeout: float, say: Callable[[str], None]
) -> Iterator[Outcome]:
    """Do all jobs on a Dask cluster and yield an `Outcome` for each, in the order in which they finish.

    Args:
        jobs: the jobs, which must be picklable; the caller may append to them while iterating.
        setup: makes the set-up of the processes of a Dask worker.
        address: address of the scheduler, as `tcp://HOST:PORT` or `tls://HOST:PORT`.
        name: name of the work; processes of an earlier run that still do work of this name are stopped first.
        timeout: longest time in seconds that a job may go without progress.
        say: called with a line when the cluster has no workers.

    Raises:
        UsageError: the address is malformed.
        FatalJobError: a job raised it, or processes can't start.
        StmnError: no scheduler answers, it has no workers, or the connection is lost.
    """
    if not jobs:
        return
    with _connect(address) as client:
        _wait_for_worker(client, address, say)
        pool = f"stmn-{digest(name)}"
        try:
            client.register_plugin(_WorkerPool(setup, timeout), name=pool)
            yield from _Submission(client, address, pool, jobs, say).outcomes()
        except (OSError, distributed.CancelledError, CommClosedError) as error:
            raise StmnError(
                f"cluster {address}: the scheduler is gone ({type(error).__name__}); finished work is kept; rerun "
                "the command to continue"
            ) from error
        except ImportError as error:
            raise StmnError(f"cluster {address}: {error}: workers and scheduler also need stmn[cluster]") from error
        finally:
            with suppress(Exception):  # the scheduler may be gone; the error that led here matters more
                client.unregister_worker_plugin(pool)


class _Submission:
    """The jobs of one `run_on_cluster`, including those that the cluster is working on."""

    def __init__(self, client: Any, address: str, pool: str, jobs: deque[Any], say: Callable[[str], None]) -> None:
        self.client, self.address, self.pool, self.jobs, self.say = client, address, pool, jobs, say
        self.run = uuid.uuid4().hex[:12]
        self.count = 0
        self.pending: dict[Any, Any] = {}

    def outcomes(self) -> Iterator[Outcome]:
        """Keep the cluster's threads busy until no job is left."""
        deserted = False
        while self.jobs or self.pending:
            threads = sum(self.client.nthreads().values())
            if not threads and not deserted:
                self.say(f"cluster {self.address}: no workers left; waiting for one")
            deserted = not threads
            while self.jobs and len(self.pending) < _JOBS_PER_THREAD * max(1, threads):
                self.submit(self.jobs.popleft())
            try:
                done = _wait(list(self.pending), timeout=5, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            for future in done:
                yield self.outcome(future, self.pending.pop(future))

    def submit(self, job: Any) -> None:
        """Send a job to the cluster."""
        self.count += 1
        key = f"stmn-{self.run}-{self.count}"
        # pickled here, because Dask would look for futures inside
        future = self.client.submit(_do_job, self.pool, key, pickle.dumps(job), key=key, pure=False)
        self.pending[future] = job

    def outcome(self, future: Any, job: Any) -> Outcome:
        """Return the outcome of a job."""
        if future.status == "finished":
            outcome: Outcome = future.result()
            return outcome
        if future.status == "cancelled":
            raise distributed.CancelledError(future.key)
        error = future.exception()
        if isinstance(error, distributed.KilledWorker):
            return Outcome(job, error="each Dask worker that had it died", lost=True)
        if isinstance(error, FatalJobError | ImportError):
            raise error
        raise FatalJobError(f"cluster {self.address}: {type(error).__name__}: {error}")
