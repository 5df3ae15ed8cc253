"""`stmn prepare --cluster`: the workers of a Dask cluster make the same set, whatever happens to them.

Scheduler and workers are processes started by `dask`, as users start them.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from helpers.commands import call, errors_of, start
from helpers.films import film, moving
from helpers.packages import on_path
from helpers.shards import contents, places, processes, wait_until

from stmn.store.format.read import Store

pytest.importorskip("distributed")

DASK = Path(sys.executable).with_name("dask")
SMALL = ["--short-side", "32"]

#: a data set in which a video's name says what befalls the process that prepares it
TROUBLE = """
import os, signal, time
from stmn.datasets.folder import Folder

class Trouble(Folder):
    def fetch(self, video):
        if "segfault" in video.id:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "hang" in video.id:
            time.sleep(3600)
        if "slow" in video.id:
            time.sleep(0.5)
        return super().fetch(video)

def slow(first, second):
    time.sleep(1.1)
    return first.new_zeros(len(first), 2, *first.shape[1:])
"""


class Cluster:
    """A Dask scheduler and its workers, each a process."""

    def __init__(self, folder: Path, path: str = "", certificates: Path | None = None) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")]))
        }
        self.processes: list[subprocess.Popen] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        scheme = "tls" if certificates else "tcp"
        self.address = f"{scheme}://127.0.0.1:{port}"
        self.tls: list[object] = []
        if certificates:
            files = {"ca-file": "cert.pem", "cert": "cert.pem", "key": "key.pem"}
            self.tls = [word for flag, name in files.items() for word in (f"--tls-{flag}", certificates / name)]
        self.start(
            "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", "--protocol", scheme, *self.tls
        )
        self.wait_for("scheduler", "Scheduler at")

    def start(self, what: str, *arguments: object) -> subprocess.Popen:
        """Start `dask WHAT`, logging into a file."""
        with open(self.folder / f"{what}.log", "a") as log:
            process = subprocess.Popen(
                [DASK, what, *map(str, arguments)], stdout=log, stderr=log, cwd=self.folder, env=self.environment,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def worker(self, *arguments: object) -> subprocess.Popen:
        """Start a worker of one thread and wait until the scheduler knows it."""
        known = self.log("scheduler").count("Register worker")
        process = self.start("worker", self.address, "--nthreads", 1, "--no-dashboard", *self.tls, *arguments)
        wait_until(lambda: self.log("scheduler").count("Register worker") > known)
        return process

    def prepare(self, *arguments: object) -> subprocess.Popen:
        """Start `stmn prepare` as a process that uses the cluster."""
        return start(*arguments, "--cluster", self.address, env={"PYTHONPATH": self.environment["PYTHONPATH"]})

    def log(self, what: str) -> str:
        return (self.folder / f"{what}.log").read_text()

    def wait_for(self, what: str, words: str) -> None:
        wait_until(lambda: words in self.log(what))

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def trouble(tmp_path, monkeypatch):
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("trouble", TROUBLE, dataset={"trouble": "Trouble"}, flow={"slow": "slow"})
        yield packages.folder


@pytest.fixture
def cluster(tmp_path, trouble):
    """A scheduler without workers."""
    (tmp_path / "dask").mkdir()
    cluster = Cluster(tmp_path / "dask", str(trouble))
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.slow
def test_killed_worker_costs_only_time(tmp_path, cluster):
    for number in range(12):
        film(tmp_path / "v" / "wave" / f"{number:02d}.avi", moving(60, seed=number))
    arguments = ["prepare", tmp_path / "v", "mine", *SMALL]
    assert call(*arguments, "--workers", "1", "-w", tmp_path / "calm").exit_code == 0
    folder = tmp_path / "work" / "data" / "mine"

    cluster.worker("--no-nanny")
    doomed = cluster.worker("--no-nanny")
    process = cluster.prepare(*arguments, "-w", tmp_path / "work")
    wait_until(lambda: len(list(folder.glob("shards/*.sqlite"))) == 2)
    wait_until(lambda: list(folder.glob("shards/*-journal")))
    doomed.kill()
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert "distributed" not in stderr, "Dask's own messages are not for our users"

    assert len(list(folder.glob("shards/*.sqlite"))) == 2, "each worker wrote a shard of its own"
    assert not list(folder.glob("shards/*-journal"))
    assert contents(folder) == contents(tmp_path / "calm" / "data" / "mine")
    assert f"data: {folder / 'dataset.json'}" in stdout
    again = call(*arguments, "--cluster", cluster.address, "-w", tmp_path / "work")
    assert again.exit_code == 0, again.stderr
    with Store(folder) as store:
        assert len(store.videos) == 12


@pytest.mark.slow
def test_each_dask_worker_has_a_process_that_computes_flow_for_its_threads(tmp_path, cluster, monkeypatch):
    """As with `--device cuda`; here its device is the CPU, and no process is left when the work is done."""
    for number in range(6):
        film(tmp_path / "v" / "wave" / f"{number}.avi", moving(30, seed=number))
    arguments = ["prepare", tmp_path / "v", "mine", *SMALL]
    assert call(*arguments, "--workers", "1", "-w", tmp_path / "calm").exit_code == 0
    mark = f"stmn-test-{uuid.uuid4()}"
    cluster.environment["MARK"] = mark
    for _ in range(2):
        cluster.worker("--nthreads", 2)
    before = set(processes(mark))
    monkeypatch.setenv("STMN_FLOW_OWNER", "1")
    result = call(*arguments, "--cluster", cluster.address, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "flow: tvl1 on cpu of each Dask worker" in result.stderr
    assert cluster.log("worker").count("flow: tvl1 by ") == 2
    assert contents(tmp_path / "data" / "mine") == contents(tmp_path / "calm" / "data" / "mine")
    wait_until(lambda: not {line for line in processes(mark) if "serve(Connection" in line} - before, 30)


@pytest.mark.slow
def test_dask_worker_without_a_gpu_is_one_line(tmp_path, cluster):
    film(tmp_path / "v" / "wave" / "a.avi", moving(5))
    cluster.worker()
    arguments = ["--device", "cuda", "--cluster", cluster.address, "-w", tmp_path]
    result = call("prepare", tmp_path / "v", "mine", *SMALL, *arguments)
    assert result.exit_code != 0
    [line] = errors_of(result)
    assert "device 'cuda:0': this machine has no CUDA device" in line


@pytest.mark.slow
def test_crash_or_hang_costs_only_its_video(tmp_path, cluster):
    names = ["a", "b segfault", "c", "d hang", "e"]
    good = film(tmp_path / "a.avi", moving(3)).read_bytes()
    (tmp_path / "v" / "wave").mkdir(parents=True)
    for name in names:
        (tmp_path / "v" / "wave" / f"{name}.avi").write_bytes(good)
    worker = cluster.worker()
    arguments = [*SMALL, "--dataset", "trouble", "--video-timeout", "2", "--cluster", cluster.address]
    result = call("prepare", tmp_path / "v", "mine", *arguments, "-w", tmp_path)
    assert result.exit_code == 1
    [line] = errors_of(result)
    assert "2 of 5 videos were skipped, the first: 'wave/b segfault.avi': its worker process died (SIGSEGV)" in line
    with Store(tmp_path / "data" / "mine") as store:
        skipped = {v.id: v.reason for v in store.videos.values() if v.status == "skipped"}
        assert skipped == {
            "wave/b segfault.avi": "its worker process died (SIGSEGV)", "wave/d hang.avi": "no progress for 2 s (--video-timeout)",
        }  # fmt: skip
        assert len(store.videos) == 5
    assert worker.poll() is None
    assert cluster.log("scheduler").count("Register worker") == 1, "the Dask worker itself lived on"


@pytest.mark.slow
def test_time_limit_on_a_cluster_is_for_time_without_progress(tmp_path, cluster):
    """A long video may take long: here three batches of a second each."""
    film(tmp_path / "v" / "wave" / "a.avi", moving(34))
    cluster.worker("--no-nanny")
    arguments = [*SMALL, "--flow", "slow", "--video-timeout", "2", "--cluster", cluster.address]
    result = call("prepare", tmp_path / "v", "mine", *arguments, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr


@pytest.mark.slow
def test_killed_prepare_on_a_cluster_starts_again(tmp_path, cluster):
    """Jobs that it gave to the cluster do not run beside those of the second start."""
    for number in range(10):
        film(tmp_path / "v" / "wave" / f"{number:02d} slow.avi", moving(5, seed=number))
    arguments = ["prepare", tmp_path / "v", "mine", *SMALL, "--dataset", "trouble"]
    folder = tmp_path / "work" / "data" / "mine"
    mark = f"stmn-test-{uuid.uuid4()}"
    cluster.environment |= {"MARK": mark}
    cluster.worker("--no-nanny")
    idle = len(processes(mark))
    process = cluster.prepare(*arguments, "-w", tmp_path / "work")
    wait_until(lambda: len(places(folder)) >= 3)
    process.kill()
    process.communicate(timeout=60)
    done = places(folder)
    assert 3 <= len(done) < 10

    again = call(*arguments, "--cluster", cluster.address, "-w", tmp_path / "work")
    assert again.exit_code == 0, again.stderr
    assert done.items() <= places(folder).items()
    wait_until(lambda: len(processes(mark)) == idle, 30)  # and the cluster is left as it was found
    assert call(*arguments, "--workers", "1", "-w", tmp_path / "calm").exit_code == 0
    assert contents(folder) == contents(tmp_path / "calm" / "data" / "mine")


@pytest.mark.slow
def test_lost_cluster_is_one_line(tmp_path, cluster):
    for number in range(10):
        film(tmp_path / "v" / "wave" / f"{number:02d} slow.avi", moving(5, seed=number))
    arguments = ["prepare", tmp_path / "v", "mine", *SMALL, "--dataset", "trouble", "-w", tmp_path]
    folder = tmp_path / "data" / "mine"
    mark = f"stmn-test-{uuid.uuid4()}"
    cluster.environment |= {"MARK": mark}
    cluster.worker("--no-nanny")
    process = cluster.prepare(*arguments)
    wait_until(lambda: len(places(folder)) >= 2)
    cluster.stop()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    [line] = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert f"cluster {cluster.address}: the scheduler is gone" in line
    assert "Traceback" not in stderr
    wait_until(lambda: not [p for p in processes(mark) if "stmn.runtime.workers" in p], 30)
    done = places(folder)
    assert call(*arguments).exit_code == 0  # continues without it
    assert done.items() <= places(folder).items()
    assert len(contents(folder)) == 10


def test_missing_scheduler_worker_or_address_is_one_line(tmp_path, cluster, monkeypatch):
    film(tmp_path / "v" / "wave" / "a.avi", moving(5))
    monkeypatch.setattr("stmn.runtime.cluster.CONNECT_SECONDS", 1.0)
    monkeypatch.setattr("stmn.runtime.cluster.WORKER_SECONDS", 1.0)
    for address, code, words in (
        ("tcp://127.0.0.1:1", 1, "no Dask scheduler answers; start one with: dask scheduler"),
        (cluster.address, 1, f"it has no workers; start some with: dask worker {cluster.address}"),
        ("somewhere", 2, "give the address of a Dask scheduler as tcp://HOST:PORT or tls://HOST:PORT"),
        ("http://somewhere:80", 2, "give the address of a Dask scheduler as tcp://HOST:PORT or tls://HOST:PORT"),
    ):
        result = call("prepare", tmp_path / "v", "mine", *SMALL, "--cluster", address, "-w", tmp_path)
        assert result.exit_code == code
        [line] = errors_of(result)
        assert line.startswith("cluster ")
        assert line.endswith(words)
    assert not (tmp_path / "data").exists()


@pytest.fixture
def certificates(tmp_path):
    """A certificate that vouches for itself, and its key; and another one."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    for name in ("certificates", "others"):
        folder = tmp_path / name
        folder.mkdir()
        files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=stmn",
            *files,
        ]
        subprocess.run(command, check=True, capture_output=True)
    return tmp_path / "certificates"


def configured(folder: Path) -> dict[str, str]:
    """What Dask's configuration says of a client's certificates."""
    files = {"ca-file": "cert.pem", "client.cert": "cert.pem", "client.key": "key.pem"}
    return {f"distributed.comm.tls.{key}": str(folder / name) for key, name in files.items()}


@pytest.mark.slow
def test_work_goes_over_tls(tmp_path, certificates, monkeypatch):
    import dask

    film(tmp_path / "v" / "wave" / "a.avi", moving(12))
    prepare = ["prepare", tmp_path / "v", "mine", *SMALL, "-w", tmp_path / "work", "--cluster"]
    monkeypatch.setattr("stmn.runtime.cluster.CONNECT_SECONDS", 3)
    (tmp_path / "dask").mkdir()
    cluster = Cluster(tmp_path / "dask", certificates=certificates)
    try:
        refused = [
            ({}, "needs certificates: set distributed.comm.tls.ca-file"),
            (configured(tmp_path / "nowhere"), "a certificate can't be used"),
            (configured(certificates) | {"distributed.comm.tls.client.key": str(certificates / "cert.pem")}, "can't be used"),
            (configured(tmp_path / "others"), "no Dask scheduler answers, or its certificate is not one of the CA's"),
        ]  # fmt: skip
        for values, words in refused:
            with dask.config.set(values):
                [error] = errors_of(call(*prepare, cluster.address))
            assert words in error and error.startswith(f"cluster {cluster.address}: ")
        cluster.worker("--no-nanny")
        with dask.config.set(configured(certificates)):
            done = call(*prepare, cluster.address)
        assert done.exit_code == 0, done.stderr
        assert Store(tmp_path / "work" / "data" / "mine").video("wave/a.avi").frames == 12
    finally:
        cluster.stop()
