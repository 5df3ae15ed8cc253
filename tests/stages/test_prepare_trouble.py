"""What `stmn prepare` survives: killed, crashing and hanging processes, full disks, two at a time.

Processes, signals and disks are real.
"""

import platform
import random
import signal
import subprocess
import uuid

import pytest
from helpers.commands import call, errors_of, start
from helpers.films import film, moving
from helpers.packages import on_path
from helpers.shards import contents, processes, size, wait_until

from stmn.store.format.read import Store
from stmn.store.format.write import recover_videos

SMALL = ["--short-side", "32", "--workers", "2"]

#: a data set in which a video's name says what befalls the process that fetches it
TROUBLE = """
import multiprocessing, os, signal, time
from stmn.datasets.folder import Folder

class Trouble(Folder):
    def __init__(self, root, worker=""):
        super().__init__(root)
        if multiprocessing.parent_process() is not None:  # in a worker
            if worker == "dies":
                os._exit(7)
            if worker == "raises":
                raise LookupError("no database of videos")
            if worker == "is slow":
                time.sleep(4)

    def fetch(self, video):
        if "segfault" in video.id:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "exit" in video.id:
            os._exit(3)
        if "raise" in video.id:
            raise LookupError("unknown video")
        if "hang" in video.id:
            time.sleep(3600)
        return super().fetch(video)

def slow(first, second):
    time.sleep(1.1)
    return first.new_zeros(len(first), 2, *first.shape[1:])

def lacking(first, second):
    from stmn.errors import MissingExtra
    raise MissingExtra("--flow lacking", "raft", "raft")
"""


@pytest.fixture
def trouble(tmp_path, monkeypatch):
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install(
            "trouble", TROUBLE, dataset={"trouble": "Trouble"}, flow={"slow": "slow", "lacking": "lacking"}
        )
        yield packages.folder


def test_a_killed_prepare_loses_nothing_and_repeats_nothing(tmp_path):
    for number in range(16):
        film(tmp_path / "v" / "wave" / f"{number:02d}.avi", moving(40, seed=number))
    arguments = ["prepare", tmp_path / "v", "mine", *SMALL]
    assert call(*arguments, "-w", tmp_path / "calm").exit_code == 0
    expected = contents(tmp_path / "calm" / "data" / "mine")
    whole = size(tmp_path / "calm" / "data" / "mine")
    folder = tmp_path / "work" / "data" / "mine"

    done: set[str] = set()
    for way in ("SIGKILL", "Ctrl-C"):
        before = size(folder)
        moment = random.uniform(before + 1, (before + whole) / 2)
        print(f"{way} at {moment:.0f} of {whole} bytes")
        mark = f"stmn-test-{uuid.uuid4()}"
        process = start(*arguments, "-w", tmp_path / "work", env={"MARK": mark})
        wait_until(lambda least=moment: size(folder) >= least)
        if way == "Ctrl-C":
            process.send_signal(signal.SIGSTOP)  # for a moment, so that it is certainly there
            second = call(*arguments, "-w", tmp_path / "work")
            assert second.exit_code == 1
            [error] = errors_of(second)
            assert error.startswith(
                f"{folder}: process {process.pid} on {platform.node()} has been running this stage "
            )
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGCONT)
        else:
            process.kill()  # its workers, in the middle of videos, are left to themselves
        _, stderr = process.communicate(timeout=60)
        if way == "Ctrl-C":
            assert process.returncode == 130
            assert stderr.count("interrupted; finished work is kept") == 1
            assert "Traceback" not in stderr
            assert "prepare was interrupted" in errors_of(call("train-stream", "-w", tmp_path / "work"))[0]
        wait_until(lambda mark=mark: not processes(mark), 30)  # workers end with their parent, however that ends
        now = set(recover_videos(folder))
        assert done <= now
        done = now

    result = call(*arguments, "-w", tmp_path / "work")
    assert result.exit_code == 0, result.stderr
    assert contents(folder) == expected
    assert not list(folder.glob("shards/*-journal"))


def test_crash_or_hang_costs_only_its_video(tmp_path, trouble):
    names = ["a", "b segfault", "c", "d exit", "e hang", "f", "g raise", "h"]
    good = film(tmp_path / "a.avi", moving(3)).read_bytes()
    (tmp_path / "v" / "wave").mkdir(parents=True)
    for name in names:
        (tmp_path / "v" / "wave" / f"{name}.avi").write_bytes(good)
    arguments = ["prepare", tmp_path / "v", "mine", *SMALL, "--dataset", "trouble", "--video-timeout", "3"]
    result = call(*arguments, "-w", tmp_path)
    assert result.exit_code == 1
    assert len(errors_of(result)) == 1
    assert (
        "4 of 8 videos were skipped, the first: 'wave/b segfault.avi': its worker process died (SIGSEGV)"
        in result.stderr
    )
    with Store(tmp_path / "data" / "mine") as store:
        skipped = {v.id: v.reason for v in store.videos.values() if v.status == "skipped"}
        assert skipped == {
            "wave/b segfault.avi": "its worker process died (SIGSEGV)",
            "wave/d exit.avi": "its worker process died (exit code 3)",
            "wave/e hang.avi": "no progress for 3 s (--video-timeout)",
            "wave/g raise.avi": "LookupError: unknown video",
        }
        assert {v.id for v in store.videos.values() if v.frames == 3} == {f"wave/{n}.avi" for n in ("a", "c", "f", "h")}


def test_time_limit_is_for_time_without_progress(tmp_path, trouble):
    """A long video may take long: here three batches of a second each."""
    film(tmp_path / "v" / "wave" / "a.avi", moving(34))
    arguments = [*SMALL, "--flow", "slow", "--video-timeout", "2"]
    result = call("prepare", tmp_path / "v", "mine", *arguments, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr


def test_time_limit_is_per_video(tmp_path, trouble):
    """The start of the worker does not count."""
    film(tmp_path / "v" / "wave" / "a.avi", moving(3))
    arguments = [*SMALL, "--dataset", "trouble", "--dataset-options", "worker=is slow", "--video-timeout", "3"]
    result = call("prepare", tmp_path / "v", "mine", *arguments, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(("worker", "line"), [
    ("dies", "worker processes can't start (exit code 7)"),
    ("raises", "dataset 'trouble' of package trouble 1.0 failed: LookupError: no database of videos; stmn plugins list "
     "--check says what its authors must change"),
])  # fmt: skip
def test_workers_that_cannot_start_stop_prepare_at_once(worker, line, tmp_path, trouble):
    """No video is blamed."""
    for number in range(4):
        film(tmp_path / "v" / "wave" / f"{number}.avi", moving(3))
    arguments = ["prepare", tmp_path / "v", "mine", *SMALL, "--dataset", "trouble", "-w", tmp_path]
    result = call(*arguments, "--dataset-options", f"worker={worker}")
    assert result.exit_code == 1
    assert errors_of(result) == [line]
    assert recover_videos(tmp_path / "data" / "mine") == {}


def test_a_missing_package_stops_prepare_and_blames_no_video(tmp_path, trouble):
    for number in range(3):
        film(tmp_path / "v" / "wave" / f"{number}.avi", moving(3))
    result = call("prepare", tmp_path / "v", "mine", *SMALL, "--flow", "lacking", "-w", tmp_path)
    assert result.exit_code == 1
    assert errors_of(result) == ["--flow lacking needs the package 'raft': pip install 'stmn[raft]'"]
    assert recover_videos(tmp_path / "data" / "mine") == {}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 400 kB, and a function that makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("what", ["shards", "shards and rendered videos", "rendered videos"])
def test_full_disk_is_one_line_and_skips_no_video(what, tmp_path, small_disk):
    disk, enlarge = small_disk
    videos, work = tmp_path / "v", disk
    rendered = ["--dataset", "synthetic", "--dataset-options", "train=24", "--dataset-options", "test=4"]
    if what == "shards":
        for number in range(12):
            film(videos / "wave" / f"{number:02d}.avi", moving(30, seed=number))
        rendered = []
    elif what == "shards and rendered videos":
        videos = disk / "v"
    else:
        videos, work = disk / "v", tmp_path / "work"
        (disk / "others").write_bytes(bytes(340_000))
    result = call("prepare", videos, "mine", *SMALL, *rendered, "-w", work)
    assert result.exit_code == 1
    [line] = errors_of(result)
    assert line.startswith(str(disk))
    assert "can't be written: " in line
    assert "No space left on device" in line or "full" in line
    assert "Traceback" not in result.stderr
    assert "skipped" not in result.stderr.replace("skipped 0", "")

    enlarge()
    again = call("prepare", videos, "mine", *SMALL, *rendered, "-w", work)
    assert again.exit_code == 0, again.stderr
    assert call("prepare", videos, "mine", *SMALL, *rendered, "-w", tmp_path / "calm").exit_code == 0
    assert contents(work / "data" / "mine") == contents(tmp_path / "calm" / "data" / "mine")


def test_empty_shard_is_repaired(tmp_path):
    """Of eight workers one is killed before it makes its tables; then two resume."""
    film(tmp_path / "v" / "wave" / "a.avi", moving(3))
    (tmp_path / "data" / "mine" / "shards").mkdir(parents=True)
    (tmp_path / "data" / "mine" / "shards" / "007.sqlite").touch()
    result = call("prepare", tmp_path / "v", "mine", *SMALL, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    with Store(tmp_path / "data" / "mine") as store:
        assert store.video("wave/a.avi").frames == 3


def test_damaged_shard_says_what_to_do(tmp_path):
    film(tmp_path / "v" / "wave" / "a.avi", moving(3))
    arguments = ["prepare", tmp_path / "v", "mine", *SMALL, "-w", tmp_path]
    assert call(*arguments).exit_code == 0
    [shard, *_] = (p for p in (tmp_path / "data" / "mine" / "shards").iterdir())
    shard.write_bytes(b"not SQLite" * 4000)
    result = call(*arguments)
    assert result.exit_code == 1
    [line] = errors_of(result)
    assert line.startswith(f"{shard}: is damaged: ")
    assert line.endswith("; delete that file and run the command that wrote it again")
    shard.unlink()
    assert call(*arguments).exit_code == 0
