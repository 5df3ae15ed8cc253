"""Reading a prepared set: pictures by time, from any process; damage is refused."""

import multiprocessing
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import call, errors_of
from helpers.films import moving
from helpers.made_sets import MadeVideo, make_set

from stmn.errors import DataError
from stmn.runtime.json_files import read_record, write_record
from stmn.store.format.jpeg import encode_frame
from stmn.store.format.read import Store
from stmn.store.format.shard import FLOW, RGB, picture_checksum, picture_key
from stmn.workspace import Workspace

VIDEO = "train/which_moves_00003.mp4"


@pytest.fixture
def folder(scratch: Workspace) -> Path:
    """A prepared set that the test may change."""
    return scratch.root / "data" / "synthetic"


@pytest.fixture
def shard(folder: Path) -> Path:
    """The shard that holds `VIDEO`."""
    with Store(folder) as store:
        return store.shards[store.videos[VIDEO].shard]


def test_videos_by_id_and_by_part(folder):
    with Store(folder) as store:
        assert store.header.classes == ["down", "left", "right", "up"]
        assert store.header.keeps == []
        assert len(store.videos) == 36
        video = store.video(VIDEO)
        assert (video.id, video.class_name, video.group, video.status) == (VIDEO, "up", "train00003", "ok")
        assert (video.frames, video.width, video.height) == (14, 40, 40)
        assert (video.source_width, video.source_height, video.fps) == (64, 64, 25.0)
        assert [len(store.part("1", part)) for part in ("train", "test")] == [24, 12]
        assert store.part("1", "test")[0].id == "test/which_moves_00000.mp4"


def test_pictures_by_time(folder):
    with Store(folder) as store:
        frames, fields = store.frames(VIDEO, [0, 5, 13]), store.fields(VIDEO, [0, 12])
        assert (frames.shape, frames.dtype) == ((3, 3, 40, 40), torch.uint8)
        assert (fields.shape, fields.dtype) == ((2, 2, 40, 40), torch.uint8)
        # in any order, and repeatedly
        assert torch.equal(store.frames(VIDEO, [13, 0, 5, 0]), frames[[2, 0, 1, 0]])
        assert not torch.equal(frames[0], frames[1])


@pytest.mark.parametrize(("ask", "words"), [
    (lambda s: s.video("train/none.mp4"), "no video 'train/none.mp4'; run prepare again to add it"),
    (lambda s: s.frames("train/none.mp4", [0]), "no video 'train/none.mp4'"),
    (lambda s: s.frames(VIDEO, [3, 14]), "lacks a frame among 3..14"),
    (lambda s: s.fields(VIDEO, [13]), "lacks a flow field among 13..13"),
    (lambda s: s.part("2", "test"), "data set synthetic has no split '2'; it has: 1"),
])  # fmt: skip
def test_missing_video_or_time_is_named(ask, words, folder):
    with Store(folder) as store, pytest.raises(DataError) as caught:
        ask(store)
    assert words in str(caught.value)


def test_cache_changes_only_the_speed(folder):
    with Store(folder) as plain, Store(folder, cache_bytes=1 << 20) as cached:
        for times in ([0, 1, 2], [2, 0, 5], [5, 2, 13]):
            for read in ("frames", "fields"):
                wanted = [min(t, 12) for t in times]
                assert torch.equal(getattr(cached, read)(VIDEO, wanted), getattr(plain, read)(VIDEO, wanted))
        # a reader may change the tensors it got
        cached.frames(VIDEO, [0, 1]).zero_()
        assert torch.equal(cached.frames(VIDEO, [0, 1]), plain.frames(VIDEO, [0, 1]))


def test_cache_is_bounded_and_saves_reading(folder, shard):
    with Store(folder, cache_bytes=3 * 40 * 40 * 4) as store:  # four frames
        first = store.frames(VIDEO, range(10))
        assert store.cached <= store.cache_bytes
        assert 0 < len(store.cache) <= 4
        shard.write_bytes(bytes(shard.stat().st_size))  # any later read would fail
        store.close()
        assert torch.equal(store.frames(VIDEO, [9, 8]), first[[9, 8]])
        with pytest.raises(DataError):
            store.frames(VIDEO, [0])


def test_threads_read_side_by_side(folder):
    with Store(folder, cache_bytes=1 << 16) as store:
        ids = sorted(store.videos) * 3
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda i: store.frames(i, [0, 7]), ids))
        for video_id, frames in zip(ids, found, strict=True):
            assert torch.equal(frames, store.frames(video_id, [0, 7]))


def test_store_works_in_other_processes(folder):
    with Store(folder, cache_bytes=1 << 20) as store:
        here = store.frames(VIDEO, [3, 1])  # its connections are open, its cache filled
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            there = pool.apply(store.frames, (VIDEO, [3, 1]))
        assert torch.equal(here, there)
        assert torch.equal(store.frames(VIDEO, [3, 1]), here)


def test_reading_leaves_no_trace_and_takes_no_lock(folder, shard):
    files = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    other = sqlite3.connect(shard, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")  # an ordinary reader would have to wait
    with Store(folder) as store:
        assert store.frames(VIDEO, [0]).shape == (1, 3, 40, 40)
        with pytest.raises(DataError, match="readonly"):
            store.query(0, "DELETE FROM videos")
    other.execute("ROLLBACK")
    other.close()
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))} == files


def test_fingerprint_depends_on_the_contents(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    with Store(folder) as store, Store(tmp_path / "copy") as copy:
        assert store.fingerprint == copy.fingerprint
    header = read_record(tmp_path / "copy" / "dataset.json")
    header["splits"]["1"]["test"].pop()
    write_record(tmp_path / "copy" / "dataset.json", header)
    with Store(folder) as store, Store(tmp_path / "copy") as copy:
        assert store.fingerprint != copy.fingerprint


def test_shard_is_little_larger_than_its_pictures(tmp_path):
    frames = torch.from_numpy(np.stack(moving(12, height=256, width=340, dx=3)))
    levels = torch.randint(118, 139, (11, 2, 32, 43), dtype=torch.uint8)
    levels = levels.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)[..., :340]  # as smooth as flow
    with Store(make_set(tmp_path / "set", [MadeVideo("a", "any", frames, levels)])) as store:
        [(payload,)] = store.query(0, "SELECT sum(length(jpeg)) FROM pictures")
        assert payload > 50_000
        assert store.shards[0].stat().st_size < 1.1 * payload


def test_pictures_one_by_one_share_their_memory(folder):
    with Store(folder) as store:
        fields = store.fields(VIDEO, range(13))
        seen = [(t, picture.ctypes.data, torch.equal(torch.from_numpy(picture), fields[t]))
                for t, picture in store.pictures(VIDEO, FLOW, [0, 3, 4, 5, 12])]  # fmt: skip
        assert [t for t, _, _ in seen] == [0, 3, 4, 5, 12]
        assert len({place for _, place, _ in seen}) == 1
        assert all(equal for _, _, equal in seen)


#: a writer that is killed in the middle of a transaction, part of which is on disk
KILLED = """
import os, signal, sqlite3, sys
shard = sqlite3.connect(sys.argv[1], isolation_level=None)
shard.execute("PRAGMA cache_size = 1")
shard.execute("BEGIN IMMEDIATE")
shard.execute("UPDATE pictures SET jpeg = zeroblob(length(jpeg))")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_half_written_shard_is_refused_until_it_is_recovered(scratch, folder, shard):
    with Store(folder) as store:
        before = store.frames(VIDEO, range(14))
    subprocess.run([sys.executable, "-c", KILLED, shard])
    assert shard.with_name(shard.name + "-journal").exists()

    with pytest.raises(DataError, match="prepare is running or was interrupted; run prepare again to finish it"):
        Store(folder)
    result = call("train-stream", "--steps", "1", "-w", scratch.root)
    assert result.exit_code == 1
    assert errors_of(result) == [f"{shard}: prepare is running or was interrupted; run prepare again to finish it"]

    options = ["--dataset", "synthetic", "--dataset-options", "train=24", "--dataset-options", "test=12"]
    result = call("prepare", *options, "--short-side", "40", "--bound", "5", "-w", scratch.root)
    assert result.exit_code == 0, result.stderr
    with Store(folder) as store:
        assert torch.equal(store.frames(VIDEO, range(14)), before)


def overwrite_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200 : len(data) // 2] = os.urandom(len(data) // 2 - 200)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [
    lambda p: p.write_bytes(b"\0" * 40000), lambda p: p.write_bytes(b""), overwrite_middle, Path.unlink,
    lambda p: p.write_bytes(p.read_bytes().replace(b"CREATE TABLE videos", b"CREA\xacE TABLE videos")),
], ids=["zeros", "empty", "middle", "missing", "schema"])  # fmt: skip
def test_damaged_shard_is_one_line(damage, scratch, folder, shard):
    damage(shard)
    with pytest.raises(DataError) as caught, Store(folder) as store:
        for video_id in [*store.header.part("1", "train"), *store.header.part("1", "test")]:
            store.frames(video_id, range(14))
    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(("jpeg", "words"), [
    (b"no JPEG", "frame 4 is not a readable JPEG"),
    (lambda whole: whole[:-40], "frame 4 is not a readable JPEG"),
    (lambda _: encode_frame(torch.zeros(20, 30, 3, dtype=torch.uint8), 90), "frame 4 is (20, 30, 3), not (40, 40, 3)"),
    (lambda _: encode_frame(torch.zeros(80, 80, 3, dtype=torch.uint8), 90), "frame 4 is not a readable JPEG"),
], ids=["text", "cut short", "small", "large"])  # fmt: skip
def test_damaged_picture_names_its_video(folder, shard, jpeg, words):
    with Store(folder) as store:
        key = (store.video(VIDEO).number << 33) + 4
    connection = sqlite3.connect(shard)
    if callable(jpeg):
        jpeg = jpeg(connection.execute("SELECT jpeg FROM pictures WHERE key = ?", (key,)).fetchone()[0])
    crc = picture_checksum(RGB, 4, jpeg)
    connection.execute("UPDATE pictures SET jpeg = ?, crc = ? WHERE key = ?", (jpeg, crc, key))
    connection.commit()
    connection.close()
    with Store(folder) as store:
        assert store.frames(VIDEO, [3, 5]).shape == (2, 3, 40, 40)
        with pytest.raises(
            DataError, match=re.escape(f"{shard}: is damaged: video '{VIDEO}': {words}; delete that file")
        ):
            next(frame for t, frame in store.pictures(VIDEO, RGB, [3, 4]) if t == 4)


def test_picture_that_is_gone_names_its_file(folder, shard):
    """Its key has changed, as by a wrong bit."""
    with Store(folder) as store:
        first = picture_key(store.video(VIDEO).number, RGB, 0)
    with sqlite3.connect(shard) as connection:
        connection.execute("UPDATE pictures SET key = key + ? WHERE key = ?", (1 << 62, first + 4))
    connection.close()
    with Store(folder) as store, pytest.raises(DataError) as caught:
        store.frames(VIDEO, [3, 4])
    why = f"video '{VIDEO}': lacks a frame among 3..4"
    assert str(caught.value) == (
        f"{shard}: is damaged: {why}; delete that file and run the command that wrote it again"
    )


@pytest.mark.parametrize(("text", "words"), [
    (None, "no prepared data set here (no dataset.json)"),
    ("{", "dataset.json: is damaged: "),
    ("[]", "dataset.json: is damaged: "),
    ('{"format": 99}', "dataset.json: format 99, but this program reads 2; prepare it again"),
    ('{"format": 2, "name": "x"}', "dataset.json: is damaged: "),
])  # fmt: skip
def test_wrong_header_is_one_line(text, words, folder):
    if text is None:
        (folder / "dataset.json").unlink()
    else:
        (folder / "dataset.json").write_text(text)
    with pytest.raises(DataError) as caught:
        Store(folder)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
