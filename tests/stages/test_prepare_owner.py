"""`stmn prepare` with one process that computes flow for all others, as on a CUDA device; here its device is the CPU."""

import multiprocessing
import shutil
import uuid
from pathlib import Path

import pytest
import torch
from helpers.commands import call, errors_of, start
from helpers.films import film, moving
from helpers.gpus import pretend_gpus
from helpers.packages import on_path
from helpers.shards import contents, processes, size, wait_until
from torch import Tensor

from stmn.flow import owner
from stmn.runtime.workers import serve
from stmn.store.format.read import Store

SMALL = ["--short-side", "32", "--workers", "3"]

#: a flow plugin for which the frames say what befalls it, and a data set that kills the worker of one video
TROUBLE = """
import os, signal, threading, torch
from pathlib import Path
from stmn.datasets.folder import Folder
from stmn.errors import MissingExtra
from torch import Tensor

class Dying(Folder):
    def fetch(self, video):
        if "dies" in video.id:
            threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGKILL]).start()
        return super().fetch(video)

def trouble(first: Tensor, second: Tensor) -> Tensor:
    if len(first) > 12:
        Path(__file__).with_suffix(".short").touch()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
    light = first.float().mean(dim=(1, 2))
    if (light > 250).any():
        raise LookupError("too bright")
    if ((light > 240) & (light < 245)).any():
        raise MissingExtra("flow 'trouble'", "nowhere", "trouble")
    if (light < 4).any() and first.shape[2] > 32:  # the frames that options are checked with are 32 x 32
        os._exit(5)
    return torch.stack([first, second], dim=1).float() / 100
"""


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """Eight videos of two sizes and several lengths in `v`, prepared by processes that compute their own flow."""
    root = tmp_path_factory.mktemp("calm")
    for number in range(8):
        film(root / "v" / "wave" / f"{number}.avi", moving(20 + 3 * number, 48 if number % 3 else 64, seed=number))
    result = call("prepare", root / "v", "mine", *SMALL, "-w", root)
    assert result.exit_code == 0, result.stderr
    return root


@pytest.fixture
def videos(calm, tmp_path) -> Path:
    """The test's own copy of the videos."""
    return shutil.copytree(calm / "v", tmp_path / "v")


@pytest.fixture
def owned(monkeypatch):
    monkeypatch.setenv("STMN_FLOW_OWNER", "1")


@pytest.fixture
def packages(tmp_path, monkeypatch):
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("trouble", TROUBLE, flow={"trouble": "trouble"}, dataset={"trouble": "Dying"})
        yield packages


def stored(root: Path) -> dict:
    return contents(root / "data" / "mine")


def test_the_set_is_that_of_processes_that_compute_themselves(calm, tmp_path, owned):
    """To the byte: flow of a pair does not depend on its batch. A line says what computes."""
    result = call("prepare", calm / "v", "mine", *SMALL, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "flow: tvl1 by " in result.stderr and " on the CPU (" in result.stderr
    assert stored(tmp_path) == stored(calm)


def test_killed_and_continued(calm, tmp_path, owned):
    """`kill -9` of prepare ends all its processes, also the one that computes flow; the same command continues."""
    arguments = ["prepare", calm / "v", "mine", *SMALL, "-w", tmp_path]
    mark = f"stmn-test-{uuid.uuid4()}"
    process = start(*arguments, env={"MARK": mark})
    wait_until(lambda: size(tmp_path / "data" / "mine"))
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not processes(mark), 30)
    assert call(*arguments).exit_code == 0
    assert stored(tmp_path) == stored(calm)


def test_death_of_the_process_that_computes_stops_the_work(videos, tmp_path, packages, owned):
    """No video is skipped for it, and the error says how it died."""
    film(videos / "wave" / "dark.avi", [0 * picture for picture in moving(5)])
    died = call("prepare", videos, "mine", *SMALL, "--flow", "trouble", "-w", tmp_path)
    assert died.exit_code == 1
    assert errors_of(died) == [
        "cpu: the process that computes flow died (exit code 5); finished videos are kept: run the same command to continue"
    ]
    assert not [row for row, _ in stored(tmp_path).values() if row["status"] != "ok"]


def test_what_no_video_is_to_blame_for_stops_the_work(videos, tmp_path, packages, owned):
    """The process that computes says why, in one line."""
    film(videos / "wave" / "light.avi", [0 * picture + 242 for picture in moving(5)])
    stopped = call("prepare", videos, "mine", *SMALL, "--flow", "trouble", "-w", tmp_path)
    assert stopped.exit_code == 1
    assert errors_of(stopped) == [
        "flow 'trouble' needs the package 'nowhere': pip install 'stmn[trouble]'; finished videos are kept: run the same "
        "command to continue"
    ]
    assert not [row for row, _ in stored(tmp_path).values() if row["status"] != "ok"]


def test_a_failing_video_costs_itself_and_memory_is_asked_for_in_parts(videos, tmp_path, packages, owned):
    """What fails in a batch of several videos is computed video by video, and what is too large in halves."""
    film(videos / "wave" / "bright.avi", [0 * picture + 255 for picture in moving(5)])
    arguments = ["--flow", "trouble", "--allow-failures", "1", "-w", tmp_path]
    result = call("prepare", videos, "mine", *SMALL, *arguments)
    assert result.exit_code == 0, result.stderr
    assert "skipped 'wave/bright.avi': flow 'trouble' of package trouble 1.0 failed: LookupError: too bright" in (
        result.stderr
    )
    assert [name for name, (row, _) in stored(tmp_path).items() if row["status"] != "ok"] == ["wave/bright.avi"]
    assert (packages.folder / "trouble.short").exists()


def test_a_worker_that_is_killed_costs_its_video(videos, tmp_path, packages, owned):
    """The process that computes goes on for the others."""
    film(videos / "wave" / "dies.avi", moving(1000))
    arguments = ["--dataset", "trouble", "--allow-failures", "1", "-w", tmp_path]
    result = call("prepare", videos, "mine", *SMALL, *arguments)
    assert result.exit_code == 0, result.stderr
    assert "skipped 'wave/dies.avi': its worker process died (SIGKILL)" in result.stderr
    assert len(stored(tmp_path)) == 9


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cuda", "device 'cuda': this machine has no CUDA device that torch"),
        ("cuda:0,cuda:1", "device 'cuda:0': this machine has no CUDA device that torch"),
        ("cuda:", "device 'cuda:': unknown; use auto, cpu, cuda or cuda:N, or several: cuda:0,cuda:1"),
        ("gpu", "device 'gpu': unknown; use auto, cpu, cuda or cuda:N, or several: cuda:0,cuda:1"),
    ],
)
def test_a_device_that_is_not_here_is_one_line(device, says, videos, tmp_path):
    result = call("prepare", videos, "mine", "--device", device, "-w", tmp_path)
    assert result.exit_code == 2
    [line] = errors_of(result)
    assert line.startswith(says)
    assert not (tmp_path / "data").exists()


@pytest.fixture
def busy_gpu(monkeypatch):
    """A GPU in exclusive use by another program: its first use fails, also in the process that computes flow."""

    def fail(_: torch.device) -> None:
        raise getattr(torch, "AcceleratorError", RuntimeError)(
            "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nSearch for `cudaErrorDevicesUnavailable' in "
            "https://docs.nvidia.com/cuda for more information.\nCUDA kernel errors might be asynchronously reported."
        )

    def start_here(connection):
        process = multiprocessing.get_context("fork").Process(target=serve, args=(connection,), daemon=True)
        process.start()
        return process

    pretend_gpus(monkeypatch, (9, 0))
    monkeypatch.setattr(torch.cuda, "set_device", fail)
    monkeypatch.setattr(owner, "start_process", start_here)


BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable; use --device cpu, or another GPU"


def test_gpu_that_can_not_be_used_is_one_line(videos, tmp_path, busy_gpu):
    result = call("prepare", videos, "mine", *SMALL, "--device", "cuda", "-w", tmp_path)
    assert result.exit_code == 1
    [line] = errors_of(result)
    assert line.startswith("cuda:0: ") and line.endswith(BUSY)
    assert not stored(tmp_path)


def test_auto_goes_on_without_a_gpu_that_can_not_be_used(videos, tmp_path, busy_gpu):
    """There is one, and there are enough videos; the reason is said, and the CPU does the work."""
    for number in range(2):
        shutil.copytree(videos / "wave", videos / f"class {number}")
    result = call("prepare", videos, "mine", *SMALL, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    reason, flow = (line for line in result.stderr.splitlines() if "cuda:0" in line or line.startswith("flow: "))
    assert reason.endswith(BUSY)
    assert flow.startswith("flow: tvl1 by ") and " on the CPU (" in flow
    assert {row["status"] for row, _ in stored(tmp_path).values()} == {"ok"} and len(stored(tmp_path)) == 24


def levels_of(root: Path) -> dict[str, Tensor]:
    """Video -> its stored flow levels, decoded."""
    with Store(root / "data" / "mine") as store:
        return {name: store.fields(name, range(video.frames - 1)).float() for name, video in store.videos.items()}


def assert_flow_is_alike(one: Path, other: Path) -> None:
    """Rounding alone: it moves a few levels by one, and the JPEG encoder spreads that."""
    expected, found = levels_of(one), levels_of(other)
    assert found.keys() == expected.keys()
    for name, levels in expected.items():
        difference = (found[name] - levels).abs()
        assert difference.mean() < 0.1
        assert difference.quantile(0.999) <= 4


@pytest.mark.cuda
def test_a_gpu_makes_the_set_of_the_cpu(calm, tmp_path):
    result = call("prepare", calm / "v", "mine", *SMALL, "--device", "cuda", "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "flow: tvl1 by Triton's kernels on cuda:0 (" in result.stderr
    assert_flow_is_alike(calm, tmp_path)


@pytest.mark.cuda(gpus=2)
def test_two_gpus_share_the_videos(calm, tmp_path):
    result = call("prepare", calm / "v", "mine", *SMALL, "--device", "cuda:0,cuda:1", "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "on cuda:0 (" in result.stderr and "on cuda:1 (" in result.stderr
    assert_flow_is_alike(calm, tmp_path)


@pytest.mark.cuda
def test_few_videos_stay_on_the_cpu_and_many_go_to_the_gpu(calm, tmp_path):
    result = call("prepare", calm / "v", "mine", *SMALL, "-w", tmp_path)
    assert "flow: tvl1 by the C kernel on the CPU (" in result.stderr
    for number in range(20):
        shutil.copytree(calm / "v" / "wave", tmp_path / "v" / f"class {number}")
    result = call("prepare", tmp_path / "v", "mine", *SMALL, "-w", tmp_path / "many")
    assert "flow: tvl1 by Triton's kernels on cuda:0 (" in result.stderr
