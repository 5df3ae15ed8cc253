"""The same jobs on the workers of a Dask cluster.

Each thread of a Dask worker hands its job to a process of its own (`stmn.runtime.workers`), so that a decoder that
crashes or hangs costs its video alone and not the Dask worker. A Dask worker that dies costs nothing: the scheduler
gives what it had to another one. Such a job may have been finished just before, so it may be done twice; who reads
the results has to expect that.
"""

import logging
import pickle
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

try:
    import distributed
    from distributed.diagnostics.plugin import WorkerPlugin
except ImportError as missing:
    from stmn.errors import MissingExtra

    raise MissingExtra("prepare --cluster", "distributed", "cluster") from missing

from stmn.errors import StmnError, UsageError
from stmn.runtime.files import digest
from stmn.runtime.version import __version__
from stmn.runtime.workers import Executed, FatalJobError, Outcome, Setup, Worker, collect

#: seconds in which a scheduler has to answer
CONNECT_SECONDS = 10.0
#: seconds in which the first Dask worker has to come
WORKER_SECONDS = 30.0
#: jobs that wait at the cluster for each of its threads: enough that none idles, few enough for any number of videos
AHEAD = 4

#: given the name of a Dask worker's process that no other has, makes the set-up of its worker processes
ClusterSetup = Callable[[str], Setup]


class Crew(WorkerPlugin):
    """The worker processes of one Dask worker: as many as it has threads, each started with its first job."""

    def __init__(self, setup: ClusterSetup, timeout: float) -> None:
        self.make_setup, self.timeout, self.version = setup, timeout, __version__

    def setup(self, worker: distributed.Worker) -> None:
        """Called by Dask as the Dask worker gets to know of the jobs."""
        if self.version != __version__:
            raise StmnError(f"the cluster's worker {worker.address} has stmn {__version__}, not {self.version}")
        self.worker_setup = self.make_setup(digest(worker.id))
        self.lock = threading.Lock()
        self.closed = False
        self.idle: list[Worker] = []
        self.busy: dict[str, Worker] = {}
        self.indices: set[int] = set()

    def teardown(self, worker: distributed.Worker) -> None:
        """Called by Dask as the Dask worker closes, or as the jobs are over. No process is left when it returns."""
        with self.lock:
            self.closed = True
            for one in self.busy.values():
                one.process.kill()  # the thread that waits for it sees that
                one.process.join()
            for one in self.idle:
                one.stop()
            self.idle.clear()

    def transition(self, key: Any, start: str, finish: str, **about: Any) -> None:
        """Called by Dask as the state of a task changes: one that nobody waits for any more is stopped."""
        if finish in ("cancelled", "released", "forgotten"):
            with self.lock:
                if worker := self.busy.get(str(key)):
                    worker.process.kill()
                    self.busy.pop(str(key))

    def do(self, key: str, job: Any) -> Outcome:
        """Do a job in one of the processes."""
        with self.lock:
            if self.closed:
                raise distributed.Reschedule
            worker = self.idle.pop() if self.idle else self.start()
            self.busy[key] = worker
        worker.give(job)
        lost = True
        try:
            while (outcome := collect(worker, bool(wait([worker.connection], timeout=0.5)), self.timeout)) is None:
                continue
            lost = outcome.lost
        finally:
            with self.lock:
                stopped = self.closed or self.busy.pop(key, None) is None
                worker.job = None
                if lost or stopped:
                    worker.stop()
                    self.indices.discard(worker.index)
                else:
                    self.idle.append(worker)
            if stopped:  # by this Dask worker's end, say: that is not the job's fault
                raise distributed.Reschedule
        return outcome

    def start(self) -> Worker:
        """One more process, with the first index that none has."""
        index = next(number for number in range(len(self.indices) + 1) if number not in self.indices)
        self.indices.add(index)
        return Worker(self.worker_setup, index, Executed)


def do_job(crew: str, key: str, job: bytes) -> Outcome:
    """The task that Dask runs in a thread of a Dask worker."""
    plugin = distributed.get_worker().plugins[crew]
    assert isinstance(plugin, Crew)
    return plugin.do(key, pickle.loads(job))


def connect(address: str) -> distributed.Client:
    """A client of the scheduler at `address`. Raises `UsageError` when it is none or `StmnError` when none answers."""
    if "://" not in address:
        raise UsageError(f"cluster '{address}': give the address of a Dask scheduler as tcp://HOST:PORT")
    quiet()
    try:
        return distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError) as error:
        raise StmnError(f"cluster {address}: no Dask scheduler answers; start one with: dask scheduler") from error
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"cluster '{address}': {error}; give it as tcp://HOST:PORT") from error


def quiet() -> None:
    """Keep Dask's own messages from the user: what goes wrong is said once, in one line, by us."""
    for name in ["distributed", *logging.root.manager.loggerDict]:
        if name.split(".")[0] == "distributed":  # Dask gives several of them a level and a handler of their own
            logging.getLogger(name).setLevel(logging.CRITICAL)


def check_cluster(address: str, say: Callable[[str], None]) -> None:
    """Raise what `connect` raises, and `StmnError` when the scheduler has no Dask worker and none comes soon."""
    with connect(address) as client:
        await_workers(client, address, say)


def await_workers(client: distributed.Client, address: str, say: Callable[[str], None]) -> None:
    """Wait for the first Dask worker. Raises `StmnError` when none comes."""
    if not client.nthreads():
        say(f"cluster {address}: no workers yet; waiting {WORKER_SECONDS:g} s for one")
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except (TimeoutError, OSError) as error:
        raise StmnError(f"cluster {address}: it has no workers; start some with: dask worker {address}") from error


def run_on_cluster(
    jobs: deque[Any], setup: ClusterSetup, address: str, name: str, timeout: float, say: Callable[[str], None]
) -> Iterator[Outcome]:
    """Do all jobs on the Dask workers of the scheduler at `address`; yield an `Outcome` each, as they end.

    The caller may append to `jobs` while iterating. `name` names the work: where another run's processes still do
    work of that name, they are stopped first. `timeout` seconds is the most that a job may take. `say` is told when
    there is nobody to work. Raises `FatalJobError` when a job does and `StmnError` when the cluster is lost.
    """
    if not jobs:
        return
    with connect(address) as client:
        await_workers(client, address, say)
        crew = f"stmn-{digest(name)}"
        try:
            client.register_plugin(Crew(setup, timeout), name=crew)
            yield from Flight(client, address, crew, jobs, say).outcomes()
        except (OSError, distributed.CancelledError, distributed.comm.CommClosedError) as error:
            raise StmnError(
                f"cluster {address}: the scheduler is gone ({type(error).__name__}); what was finished is kept, the "
                "same command goes on from there"
            ) from error
        except ImportError as error:
            raise StmnError(f"cluster {address}: {error}: workers and scheduler need stmn[cluster], too") from error
        finally:
            with suppress(Exception):  # gone, perhaps; the error that brought us here is the one to tell
                client.unregister_worker_plugin(crew)


class Flight:
    """The jobs that are at the cluster."""

    def __init__(
        self, client: distributed.Client, address: str, crew: str, jobs: deque[Any], say: Callable[[str], None]
    ) -> None:
        self.client, self.address, self.crew, self.jobs, self.say = client, address, crew, jobs, say
        self.run = uuid.uuid4().hex[:12]
        self.sent = 0
        self.there: dict[distributed.Future, Any] = {}

    def outcomes(self) -> Iterator[Outcome]:
        """Keep the cluster's threads busy until no job is left."""
        deserted = False
        while self.jobs or self.there:
            threads = sum(self.client.nthreads().values())
            if not threads and not deserted:
                self.say(f"cluster {self.address}: no workers left; waiting for one")
            deserted = not threads
            while self.jobs and len(self.there) < AHEAD * max(1, threads):
                self.send(self.jobs.popleft())
            try:
                done = distributed.wait(list(self.there), timeout=5, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            for future in done:
                yield self.outcome(future, self.there.pop(future))

    def send(self, job: Any) -> None:
        """Submit a job."""
        self.sent += 1
        key = f"stmn-{self.run}-{self.sent}"
        # pickled here: Dask would look for futures inside
        future = self.client.submit(do_job, self.crew, key, pickle.dumps(job), key=key, pure=False)
        self.there[future] = job

    def outcome(self, future: distributed.Future, job: Any) -> Outcome:
        """What became of a job."""
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
