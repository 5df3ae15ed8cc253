"""What `stmn prepare` prints while it works: bars on a terminal, plain lines elsewhere, JSON for a machine."""

import json
import os
import signal
from pathlib import Path

import pytest
from helpers.commands import call, errors_of, start
from helpers.films import film, moving, sound
from helpers.terminal import on_terminal, screen_lines

SMALL = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos and a file that is none."""
    for name, frames in (("a", 5), ("b", 9)):
        film(tmp_path / "v" / "wave" / f"{name}.mp4", moving(frames, 32, 32))
    sound(tmp_path / "v" / "wave" / "c.mp4")
    return tmp_path / "v"


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_is_one_line_per_video_and_the_record(videos, tmp_path):
    result = call("prepare", videos, "mine", "-w", tmp_path, *SMALL, "--allow-failures", "1", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    *events, record = lines_of(result.stdout)
    assert sorted(events, key=lambda e: e["video"]) == [
        {"video": "wave/a.mp4", "status": "ok", "frames": 5, "reason": "", "new": True},
        {"video": "wave/b.mp4", "status": "ok", "frames": 9, "reason": "", "new": True},
        {"video": "wave/c.mp4", "status": "skipped", "frames": 0, "reason": events[-1]["reason"], "new": True},
    ]  # fmt: skip
    assert events[-1]["reason"].endswith("holds no video stream")
    assert (record["verb"], record["status"]) == ("prepare", "done")
    assert record["results"] == {"videos": 3, "ok": 2, "skipped": 1, "frames": 14, "root": str(videos)}
    written = json.loads((tmp_path / "data" / "mine" / "run.json").read_text())
    assert written.pop("digest") and record == written  # the file's digest vouches for the file alone

    # videos that were there already are reported also, so that the lines always add up
    film(videos / "wave" / "d.mp4", moving(4, 32, 32))
    *events, record = lines_of(
        call("prepare", videos, "mine", "-w", tmp_path, *SMALL, "--allow-failures", "1", "--json").stdout
    )
    assert {e["video"]: (e["status"], e["new"]) for e in events} == {
        "wave/a.mp4": ("ok", False), "wave/b.mp4": ("ok", False), "wave/c.mp4": ("skipped", False),
        "wave/d.mp4": ("ok", True),
    }  # fmt: skip
    assert record["results"]["videos"] == len(events)


def test_json_of_a_failed_prepare_ends_with_its_record(videos, tmp_path):
    result = call("prepare", videos, "mine", "-w", tmp_path, *SMALL, "--json")
    assert result.exit_code == 1
    [line] = errors_of(result)
    *events, record = lines_of(result.stdout)
    assert len(events) == 3
    assert (record["status"], record["error"]) == ("failed", line)


def test_json_of_a_stage_without_events_is_its_record(videos, tmp_path):
    film(videos / "jump" / "a.mp4", moving(9, 32, 32))
    film(videos / "jump" / "b.mp4", moving(9, 32, 32, seed=1))
    call("prepare", videos, "mine", "-w", tmp_path, *SMALL, "--allow-failures", "1")
    tiny = [
        "--arch", "resnet18", "--width", "0.125", "--size", "32", "--steps", "1", "--batch", "2", "--weights", "none",
    ]  # fmt: skip
    result = call(
        "train-stream",
        "-w",
        tmp_path,
        *tiny,
        "--micro-batch",
        "2",
        "--schedule",
        "cosine",
        "--validation",
        "0",
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    [record] = lines_of(result.stdout)
    assert (record["verb"], record["status"]) == ("train-stream", "done")


def test_json_when_interrupted(tmp_path):
    for number in range(12):
        film(tmp_path / "v" / "wave" / f"{number}.mp4", moving(60, 120, 160))
    process = start("prepare", tmp_path / "v", "mine", "-w", tmp_path, "--workers", "1", "--json")
    first = json.loads(process.stdout.readline())
    assert (first["status"], first["frames"]) == ("ok", 60)
    os.killpg(process.pid, signal.SIGINT)
    text, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert lines_of(text)[-1]["status"] == "interrupted"
    assert "interrupted" in said


def test_plain_lines_where_there_is_no_terminal(videos, tmp_path):
    result = call("prepare", videos, "mine", "-w", tmp_path, *SMALL, "--allow-failures", "1")
    assert result.stdout == f"data: {tmp_path}/data/mine/dataset.json\n"
    assert "\x1b" not in result.stderr
    lines = result.stderr.splitlines()
    assert any(line.startswith("skipped 'wave/c.mp4': ") for line in lines)
    [last] = [line for line in lines if line.startswith("videos: 3/3 videos, ")]
    assert "frames 14  frames/s " in last
    assert "skipped 1" in last


def test_bar_on_a_terminal(videos, tmp_path):
    text = on_terminal("prepare", videos, "mine", "-w", tmp_path, *SMALL, "--allow-failures", "1", columns=160)
    assert "skipped 'wave/c.mp4'" in text
    for words in ("3/3", "frames 14", "frames/s ", "skipped 1", "left"):
        assert words in text, words


def test_bar_fits_a_narrow_terminal(videos, tmp_path):
    text = on_terminal("prepare", videos, "mine", "-w", tmp_path, *SMALL, "--allow-failures", "1")
    bars = [line for line in screen_lines(text) if line.startswith("videos ")]
    assert max(map(len, bars)) <= 80
    assert "3/3" in bars[-1] and "frames 14" in bars[-1] and "skipped 1" in bars[-1]
