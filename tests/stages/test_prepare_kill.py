"""`stmn prepare` killed at any moment, and started again: nothing is lost, nothing is done or stored twice."""

import random
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from helpers.commands import STMN, call, errors_of, start
from helpers.films import film, moving
from helpers.packages import on_path
from helpers.shards import contents, places, processes, size, wait_until

from stmn.store.format.read import Store

SMALL = ["--short-side", "32", "--workers", "2"]


def kill_again_and_again(tmp_path: Path, videos: int, times: int) -> None:
    """Kill `prepare` twice as it starts, then `times` times after some more videos; at last let it finish."""
    for number in range(videos):
        film(tmp_path / "v" / "wave" / f"{number:02d}.avi", moving(40, seed=number))
    arguments = ["prepare", tmp_path / "v", "mine", *SMALL]
    calm, folder = tmp_path / "calm" / "data" / "mine", tmp_path / "work" / "data" / "mine"
    process = start(*arguments, "-w", tmp_path / "calm")
    wait_until(lambda: size(calm))
    begun = time.monotonic()
    process.communicate(timeout=300)
    assert process.returncode == 0
    seconds_per_video = (time.monotonic() - begun) / videos

    done: dict[str, tuple[str, int]] = {}
    killed = 0
    for kill in range(-1, times + 1):
        mark, enough = f"stmn-test-{uuid.uuid4()}", len(done) + random.randint(1, max(1, videos // times // 2))
        process = start(*arguments, "-w", tmp_path / "work", env={"MARK": mark})
        if kill >= 0:  # the first one comes before anything is written, or as it is
            wait_until(
                lambda enough=enough, process=process, kill=kill: (
                    (len(places(folder)) >= enough if kill else size(folder)) or process.poll() is not None
                )
            )
        moment = random.uniform(0, seconds_per_video)
        time.sleep(moment)
        killed += process.poll() is None
        process.kill()
        process.communicate(timeout=60)
        wait_until(lambda mark=mark: not processes(mark), 30)  # workers end with their parent, however that ends
        now = places(folder)
        print(
            f"killed {moment:.2f} s after {f'video {enough}' if kill > 0 else 'its start'}: {len(done)} -> {len(now)} of {videos}"
        )
        assert done.items() <= now.items(), "a finished video stays where it is"
        done = now
    assert killed > times / 2, "the others came too late"
    result = call(*arguments, "-w", tmp_path / "work")
    assert result.exit_code == 0, result.stderr
    assert done.items() <= places(folder).items()
    assert contents(folder) == contents(calm)
    assert not list(folder.glob("shards/*-journal"))
    with Store(folder) as store:
        assert len(store.videos) == videos


@pytest.mark.slow  # test_prepare_trouble.py kills it once
def test_prepare_killed_at_the_start_and_in_the_middle(tmp_path):
    kill_again_and_again(tmp_path, videos=16, times=2)


@pytest.mark.slow
def test_killed_at_twenty_moments(tmp_path):
    kill_again_and_again(tmp_path, videos=60, times=20)


def test_worker_that_dies_before_reporting(tmp_path, monkeypatch):
    """It has stored its video; the process that records its death must not store that video again."""
    code = """
import dataclasses, multiprocessing, os
from pathlib import Path
from stmn.datasets.base import VideoEntry
from stmn.datasets.folder import Folder

@dataclasses.dataclass(frozen=True)
class Entry(VideoEntry):
    def __getstate__(self):  # as the result is reported
        mark = Path(f"{self.path}.died")
        if multiprocessing.parent_process() is not None and "dies" in self.id and not mark.exists():
            mark.touch()
            os._exit(9)
        return dict(self.__dict__)

class Dying(Folder):
    def videos(self):
        return [Entry(v.id, v.path, v.class_name) for v in super().videos()]
"""
    for name in ("a", "b dies", "c", "d dies", "e"):
        film(tmp_path / "v" / "wave" / f"{name}.avi", moving(5))
    arguments = ["prepare", tmp_path / "v", "mine", "--short-side", "32"]
    assert call(*arguments, "--workers", "2", "-w", tmp_path / "calm").exit_code == 0
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("dying", code, dataset={"dying": "Dying"})
        for worker_count in ("1", "2"):
            work = tmp_path / f"work of {worker_count}"
            result = call(*arguments, "--dataset", "dying", "--workers", worker_count, "-w", work)
            assert result.exit_code == 0, result.stderr
            assert contents(work / "data" / "mine") == contents(tmp_path / "calm" / "data" / "mine")
            for mark in tmp_path.glob("v/wave/*.died"):
                mark.unlink()


def test_leftovers_of_a_killed_writer_do_not_block_readers(tmp_path):
    """A journal of SQLite may be left that nothing needs: of a worker killed at its start, in a shard that is finished."""
    film(tmp_path / "v" / "wave" / "a.avi", moving(5))
    arguments = ["prepare", tmp_path / "v", "mine", "--short-side", "32", "--workers", "1", "-w", tmp_path]
    assert call(*arguments).exit_code == 0
    [shard] = (tmp_path / "data" / "mine" / "shards").iterdir()
    before = contents(tmp_path / "data" / "mine")
    journal = shard.with_name(f"{shard.name}-journal")
    journal.write_bytes(bytes(512))
    assert call(*arguments).exit_code == 0
    assert not journal.exists()
    assert contents(tmp_path / "data" / "mine") == before
    with Store(tmp_path / "data" / "mine") as store:
        assert len(store.videos) == 1


def test_file_size_limit_stops_like_a_full_disk(tmp_path):
    """`ulimit -f`, as batch systems set it."""
    for number in range(12):
        film(tmp_path / "v" / "wave" / f"{number:02d}.avi", moving(30, seed=number))
    arguments = ["prepare", tmp_path / "v", "mine", *SMALL]
    words = " ".join(f"'{word}'" for word in [STMN, *arguments, "-w", tmp_path / "work"])
    limited = subprocess.run(["bash", "-c", f"ulimit -f 100; exec {words}"], capture_output=True, text=True)
    assert limited.returncode == 1, limited.stderr
    [line] = errors_of(limited)
    assert line.startswith(f"{tmp_path / 'work' / 'data' / 'mine'}")
    assert "can't be written: " in line
    assert "Traceback" not in limited.stderr

    assert call(*arguments, "-w", tmp_path / "work").exit_code == 0
    assert call(*arguments, "-w", tmp_path / "calm").exit_code == 0
    assert contents(tmp_path / "work" / "data" / "mine") == contents(tmp_path / "calm" / "data" / "mine")
