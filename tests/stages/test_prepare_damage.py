"""`stmn prepare` and `predict` say what they leave out of a video, and how much of that is accepted is an option."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import av
from helpers.commands import call, errors_of
from helpers.films import film, moving

from stmn.store.format.read import Store

SMALL = ["--short-side", "32", "--workers", "1"]


def damaged_film(path: Path, numbers: list[int], frames: int = 25) -> Path:
    """An MP4 of pictures that stand for themselves, some of them zeroed."""
    film(path, moving(frames), "mjpeg", "yuvj420p")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for number in numbers:
        position, size = places[number]
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    return path


def test_what_a_video_lost_is_said_and_stays_in_the_set(tmp_path):
    film(tmp_path / "v" / "wave" / "whole.mp4", moving(25))
    damaged_film(tmp_path / "v" / "wave" / "lost.mp4", [7])
    damaged_film(tmp_path / "v" / "wave" / "worse.mp4", [7, 9])
    prepare = ["prepare", tmp_path / "v", "mine", "-w", tmp_path, *SMALL]
    first = call(*prepare, "--allow-failures", "1")
    assert first.exit_code == 0, first.stderr
    assert "note on 'wave/lost.mp4': 1 of its 25 frames can't be decoded" in first.stderr
    assert "skipped 'wave/worse.mp4': " in first.stderr and "2 of its 25 frames can't be decoded" in first.stderr
    again = call(*prepare, "--retry-skipped", "--allow-damage", "0.1")
    assert again.exit_code == 0, again.stderr
    assert "note on 'wave/worse.mp4': 2 of its 25 frames can't be decoded" in again.stderr
    with Store(tmp_path / "data" / "mine") as store:
        assert {video.id: video.frames for video in store.videos.values()} == {
            "wave/whole.mp4": 25, "wave/lost.mp4": 24, "wave/worse.mp4": 23,
        }  # fmt: skip
        assert list(store.notes()) == ["wave/lost.mp4", "wave/worse.mp4"]
    told = call("data", "info", "mine", "-w", tmp_path).stdout
    assert "'wave/lost.mp4': 1 of its 25 frames" in " ".join(told.split()).replace('"', "'")


def test_an_older_set_is_read(prepared, tmp_path):
    """As they were written before there were any, and before there was a rate."""
    shutil.copytree(prepared.root / "data" / "synthetic", tmp_path / "old")
    for shard in (tmp_path / "old" / "shards").glob("*.sqlite"):
        with closing(sqlite3.connect(shard)) as connection, connection:
            connection.execute("DROP TABLE notes")
    with Store(prepared.root / "data" / "synthetic") as new, Store(tmp_path / "old") as old:
        assert old.notes() == {} and old.fingerprint == new.fingerprint
    assert "fps" not in json.loads((tmp_path / "old" / "dataset.json").read_text())["preparation"]
    told = call("data", "info", tmp_path / "old")
    assert told.exit_code == 0 and "notes" not in told.stdout


def test_predict_says_what_a_video_lost(trained, tmp_path):
    lost = damaged_film(tmp_path / "lost.mp4", [7])
    for options in ([], ["--window", "0.5"]):
        told = call("predict", "fused", lost, "-w", trained.root, *options)
        assert told.exit_code == 0, told.stderr
        assert f"{lost}: 1 of its 25 frames can't be decoded" in told.stderr
    worse = damaged_film(tmp_path / "worse.mp4", [7, 9])
    refused = call("predict", "fused", worse, "-w", trained.root)
    assert refused.exit_code == 1
    assert errors_of(refused)[0].startswith(f"{worse}: 2 of its 25 frames can't be decoded")
    assert call("predict", "fused", worse, "-w", trained.root, "--allow-damage", "0.1").exit_code == 0
