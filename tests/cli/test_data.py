"""`stmn data`: numbers of a prepared set, one picture of a video, and its frames and flow as files again."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import call, errors_of
from helpers.films import film, moving, sound
from helpers.made_sets import MadeVideo, make_set
from helpers.shards import change_shard
from PIL import Image

from stmn.flow.quantise import quantise
from stmn.runtime.locks import hold_lock
from stmn.store.format.read import Store
from stmn.video.decode import decode_video, probe_video


def panning(name: str, dx: int, dy: int = 0, frames: int = 13, part: str = "train", height: int = 48) -> MadeVideo:
    """A texture that moves by (dx, dy) pixels a frame, with that flow."""
    pictures = torch.from_numpy(np.stack(moving(frames, height, 64, dx, dy)))
    flow = torch.tensor([float(dx), float(dy)])[:, None, None].expand(frames - 1, 2, height, 64)
    return MadeVideo(name, name.split("/")[0], pictures, quantise(flow, 20.0), part)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A workspace with one set of three videos."""
    made = [
        panning("wave/anna_1.mp4", 2), panning("wave/anna_2.mp4", 0, 4, frames=8),
        panning("clap/bert_1.avi", -6, part="test"),
    ]  # fmt: skip
    make_set(tmp_path / "data" / "mine", made)
    return tmp_path


def data(*arguments: object, code: int = 0) -> str:
    """The standard output of a `stmn data` command that ends with `code`."""
    result = call("data", *arguments)
    assert result.exit_code == code, result.stderr
    return result.stdout


def refusal(*arguments: object, code: int = 1) -> str:
    """The one line of error."""
    result = call("data", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    [line] = errors_of(result)
    return line


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


# which set


def test_set_is_a_name_or_a_folder_and_the_only_one_needs_none(work, monkeypatch):
    [first] = {data("info", *how) for how in (["-w", work], ["mine", "-w", work], [work / "data" / "mine"])}
    assert first.startswith("set          mine, of data set 'folder'")
    monkeypatch.chdir(work / "data")
    assert data("info", "mine").splitlines()[1:] == first.splitlines()[1:]


def test_of_several_sets_one_has_to_be_named(work):
    make_set(work / "data" / "other", [panning("wave/a.mp4", 1)])
    names = "several prepared data sets: mine, other; choose one with"
    assert refusal("info", "-w", work) == f"{names} stmn data info NAME"
    assert refusal("check", "-w", work) == f"{names} stmn data check NAME"
    assert refusal("extract", work / "out", "-w", work) == f"{names} stmn data extract NAME OUT"
    assert refusal("show", "anna_1", "-w", work) == f"{names} stmn data show NAME VIDEO"
    assert "mien: no prepared data set (did you mean 'mine'?)" in refusal("info", "mien", "-w", work)


def test_a_set_under_preparation_is_one_line(work):
    folder = work / "data" / "mine"
    (folder / "run.json").write_text(json.dumps({"status": "running"}))
    for command in (["info"], ["check"], ["extract", work / "out"], ["show", "anna_1"]):
        assert refusal(*command, "-w", work) == (
            f"{folder}: prepare was interrupted; finish it with the same stmn prepare command"
        )
    with hold_lock(folder, say=pytest.fail):  # as a prepare that is running
        line = refusal("info", "-w", work)
    assert line.startswith(f"{folder}: prepare is not finished: process {os.getpid()} on ")
    assert line.endswith("; wait until it ends")


def test_a_set_with_skipped_videos_can_be_looked_at(tmp_path):
    film(tmp_path / "v" / "wave" / "a.mp4", moving(5, 32, 32))
    sound(tmp_path / "v" / "wave" / "b.mp4")
    assert call("prepare", tmp_path / "v", "mine", "-w", tmp_path, "--short-side", "32").exit_code == 1
    result = call("data", "info", "-w", tmp_path)
    assert result.exit_code == 0
    assert "note: prepare ended with an error: " in result.stderr
    lines = result.stdout.splitlines()
    assert "videos       1 ok, 1 skipped" in lines
    assert any(line.startswith("skipped      'wave/b.mp4': ") and "holds no video stream" in line for line in lines)
    assert any(line.startswith("split 1") and "1 skipped" in line for line in lines)
    assert call("data", "check", "-w", tmp_path).exit_code == 0


def test_looking_leaves_no_trace(work):
    folder = work / "data" / "mine"
    before = state(folder)
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    data("info", "-w", work)
    data("check", "-w", work)
    data("show", "anna_1", "-w", work, "-o", work / "a.png")
    data("extract", work / "out", "-w", work)
    assert state(folder) == before


# info


def test_info(work):
    lines = data("info", "-w", work).splitlines()
    assert lines[1:] == [
        "prepared     short side 48 px, flow tvl1 clipped to 20 px, JPEG quality 100, camera motion: keep",
        "videos       3 ok, 0 skipped",
        "frames       34 (8 to 13 per video, median 13), 1 s",
        "             1 video has fewer than 11 frames, too few for a stack of flow",
        "sizes        64x48 (3)",
        "rates        25 (3) frames per second",
        lines[7],
        "classes      2: clap (1), wave (2)",
        "groups       3",
        "split 1      train: 2, test: 1",
        # 12 fields of 2, 7 of 4, 12 of 6 pixels, in steps of 0.157: 1.88, 3.92, 6.12
        "flow         mean 3.98 px, 99 % below 6.1 px; clipped 0.00 %, zero 0.00 %; 0.157 px between levels  (all fields)",
        lines[12],
    ]
    assert lines[7].startswith("on disk      ")
    assert lines[12].startswith("             ") and " bytes per frame, " in lines[12]


def test_info_for_machines(work):
    result = call("data", "info", "-w", work, "--json", "--fields", "10")
    assert result.stderr == ""
    info = json.loads(result.stdout)
    shard = work / "data" / "mine" / "shards" / "000.sqlite"
    assert info["bytes"] == shard.stat().st_size
    assert info["classes"] == {"clap": 1, "wave": 2}
    assert info["splits"]["1"]["test"] == {"listed": 1, "ok": 1, "skipped": 0, "missing": 0}
    assert info["frames"] == {"all": 34, "least": 8, "median": 13, "most": 13, "seconds": 1.36}
    assert (info["flow"]["fields"], info["flow"]["of"]) == (10, 31)
    assert (info["short"], info["hint"], info["skipped"]) == (["wave/anna_2.mp4"], "", [])
    with Store(work / "data" / "mine") as store:
        assert info["fingerprint"] == store.fingerprint


def test_info_measures_flow_over_all_pixels(tmp_path):
    # a quarter clipped, a half zero, a quarter (3, 4): 5 pixels a frame
    flow = torch.zeros(12, 2, 48, 64)
    flow[:, 0, :, :16] = -33
    flow[:, :, :, 48:] = torch.tensor([3.0, 4.0])[:, None, None]
    video = panning("wave/a.mp4", 1)
    make_set(tmp_path / "data" / "mine", [MadeVideo(video.id, "wave", video.frames, quantise(flow, 20.0))])
    info = json.loads(data("info", "-w", tmp_path, "--json"))
    assert info["flow"]["clipped"] == pytest.approx(0.25, abs=0.01)
    assert info["flow"]["zero"] == pytest.approx(0.5, abs=0.02)
    assert info["flow"]["mean_speed"] == pytest.approx(0.25 * 20 + 0.25 * 5, abs=0.1)
    assert info["hint"] == (
        f"{100 * info['flow']['clipped']:.1f} % of the flow is clipped at 20 px; "
        "a larger bound (--bound 30) would keep it"
    )


def test_info_says_when_the_bound_is_too_coarse(tmp_path):
    flow = torch.zeros(12, 2, 48, 64)
    flow[:, 0, :, :2] = 1.6
    video = panning("wave/a.mp4", 1)
    make_set(tmp_path / "data" / "mine", [MadeVideo(video.id, "wave", video.frames, quantise(flow, 20.0))])
    [line] = [line for line in data("info", "-w", tmp_path).splitlines() if line.startswith("hint")]
    assert "is below the step between two levels (0.16 px)" in line
    assert "--bound 2 would resolve slow motion better" in line


def test_info_says_when_the_bound_is_far_too_large(tmp_path):
    video = panning("wave/a.mp4", 2)
    make_set(tmp_path / "data" / "mine", [video])
    [line] = [line for line in data("info", "-w", tmp_path).splitlines() if line.startswith("hint")]
    assert line == (
        "hint         99.9 % of u and v stay within 1.9 px, a small part of the bound of 20 px: --bound 2 would resolve slow "
        "motion better"
    )


# show


def test_show_is_a_picture_of_frames_and_flow(work):
    assert data("show", "wave/anna_1.mp4", "-w", work, "-o", work / "a.png", "--columns", "3") == f"{work}/a.png\n"
    with Image.open(work / "a.png") as picture:
        assert picture.mode == "RGB"
        pixels = np.asarray(picture)
    with Store(work / "data" / "mine") as store:
        frames = store.frames("wave/anna_1.mp4", [0, 6, 11]).permute(0, 2, 3, 1).numpy()
    # 64 x 48 is shown three times as large; the frames stand in the first row, in order of time
    enlarged = [frame.repeat(3, axis=0).repeat(3, axis=1) for frame in frames]
    left = pixels.shape[1] - 3 * (192 + 4)  # columns, each followed by a gap
    for column, frame in enumerate(enlarged):
        x = left + column * 196
        assert (pixels[80:224, x : x + 192] == frame).all()
    middle = left + 96
    hue, u, v = (pixels[80 + 148 * row + 72, middle].astype(int) for row in (1, 2, 3))
    assert hue[0] > 200 > max(hue[1:])  # to the right: red
    assert u.tolist() == [248, 248, 248]  # 1.88 pixels, as stored; 2 would be white
    assert abs(v - 128).max() <= 1


@pytest.mark.parametrize(("text", "found"), [
    ("clap/bert_1.avi", "clap_bert_1"), ("clap", "clap_bert_1"), ("ANNA_1", "wave_anna_1"), ("_2", "wave_anna_2"),
])  # fmt: skip
def test_a_part_of_an_id_is_enough(text, found, work, monkeypatch):
    monkeypatch.chdir(work)
    assert data("show", text) == f"{found}.png\n"
    assert (work / f"{found}.png").is_file()


def test_show_takes_the_set_first(work, monkeypatch):
    make_set(work / "data" / "other", [panning("run/anna_9.avi", 2)])
    monkeypatch.chdir(work)
    assert data("show", "mine", "anna_1") == "wave_anna_1.png\n"
    assert data("show", "other", "anna") == "run_anna_9.png\n"
    assert data("show", "anna_2", "--data", "mine") == "wave_anna_2.png\n"  # as it was written before
    assert refusal("show", "othr", "anna") == (
        "data/othr: no prepared data set (did you mean 'other'?); make it with: stmn prepare VIDEOS othr"
    )
    assert (
        refusal("show", "mine", "anna", "1", code=2)
        == "too many arguments: mine anna 1; write: stmn data show [NAME] VIDEO"
    )


def test_an_id_that_fits_several_or_none(work):
    folder = work / "data" / "mine"
    assert refusal("show", "anna", "-w", work) == (
        f"{folder}: 2 videos match 'anna': 'wave/anna_1.mp4', 'wave/anna_2.mp4'"
    )
    assert refusal("show", "wave/ana_2.mp4", "-w", work) == (
        f"{folder}: no video 'wave/ana_2.mp4' (did you mean 'wave/anna_2.mp4'?)"
    )
    assert refusal("show", "jump/bret_1.avi", "-w", work) == (
        f"{folder}: no video 'jump/bret_1.avi' (did you mean 'clap/bert_1.avi'?)"
    )
    assert refusal("show", "xyz", "-w", work) == f"{folder}: no video 'xyz'"


def test_show_overwrites_only_with_force(work):
    (work / "a.png").write_text("mine")
    assert refusal("show", "anna_1", "-w", work, "-o", work / "a.png", code=2) == (
        f"{work}/a.png: already exists; use --force to overwrite it"
    )
    assert (work / "a.png").read_text() == "mine"
    data("show", "anna_1", "-w", work, "-o", work / "a.png", "--force")
    with Image.open(work / "a.png") as picture:
        picture.verify()


# extract


def test_extract_in_the_authors_layout(work):
    assert data("extract", work / "out", "-w", work) == f"{work}/out: 3 videos, 34 frames\n"
    with Store(work / "data" / "mine") as store:
        for video_id, name, count in (("wave/anna_1.mp4", "anna_1", 13), ("clap/bert_1.avi", "bert_1", 13)):
            frames = sorted((work / "out" / "jpegs_256" / name).iterdir())
            assert [f.name for f in frames] == [f"frame{t:06d}.jpg" for t in range(1, count + 1)]
            assert [f.read_bytes() for f in frames] == store.jpegs(video_id, 0, range(count))  # not encoded again
            stored = store.fields(video_id, range(count - 1)).numpy()
            for plane, letter in enumerate("uv"):
                files = sorted((work / "out" / "tvl1_flow" / letter / name).iterdir())
                assert [f.name for f in files] == [f"frame{t:06d}.jpg" for t in range(1, count)]
                levels = np.stack([np.asarray(Image.open(f)) for f in files])
                assert np.abs(levels.astype(int) - stored[:, plane]).max() <= 1
    assert {p.name for p in (work / "out").rglob(".*")} == set()


def test_extract_in_tsns_layout(work):
    data("extract", "mine", work / "out", "-w", work, "--as", "tsn", "--video", "anna_2")
    assert sorted(p.name for p in (work / "out").iterdir()) == ["anna_2"]
    names = sorted(p.name for p in (work / "out" / "anna_2").iterdir())
    assert names == sorted(
        [f"img_{t:05d}.jpg" for t in range(1, 9)] + [f"flow_{c}_{t:05d}.jpg" for c in "xy" for t in range(1, 8)]
    )
    across, down = (np.asarray(Image.open(work / "out" / "anna_2" / f"flow_{c}_00003.jpg")) for c in "xy")
    assert abs(int(across[9, 9]) - 128) <= 1
    assert abs(int(down[9, 9]) - 153) <= 1  # 4 pixels downwards, of 20


def test_what_was_extracted_can_be_prepared_again(work):
    data("extract", work / "out", "-w", work, "--as", "mp4", "--by-class")
    assert sorted(str(p.relative_to(work / "out")) for p in (work / "out").rglob("*.mp4")) == [
        "clap/bert_1.mp4", "wave/anna_1.mp4", "wave/anna_2.mp4",
    ]  # fmt: skip
    again = ["-w", work / "again", "--short-side", "48", "--flow", "farneback"]
    assert call("prepare", work / "out", "back", *again).exit_code == 0
    with Store(work / "again" / "data" / "back") as back, Store(work / "data" / "mine") as mine:
        assert {v.id: (v.class_name, v.frames) for v in back.videos.values()} == {
            "clap/bert_1.mp4": ("clap", 13), "wave/anna_1.mp4": ("wave", 13), "wave/anna_2.mp4": ("wave", 8),
        }  # fmt: skip
        here, there = mine.frames("clap/bert_1.avi", [7]).float(), back.frames("clap/bert_1.mp4", [7]).float()
        assert (here - there).abs().mean() < 6


def test_extract_mp4_keeps_rate_and_frames_of_odd_sizes(tmp_path):
    folder = make_set(tmp_path / "data" / "mine", [panning("wave/a.mp4", 1, height=49)])
    change_shard(folder / "shards" / "000.sqlite", "UPDATE videos SET fps = 29.97")
    data("extract", tmp_path / "out", "-w", tmp_path, "--as", "mp4")
    assert probe_video(tmp_path / "out" / "a.mp4").fps == pytest.approx(29.97, abs=1e-3)
    frames = list(decode_video(tmp_path / "out" / "a.mp4"))
    assert [f.shape for f in frames] == [(50, 64, 3)] * 13


def test_extract_flow_in_colours(work):
    data("extract", work / "out", "-w", work, "--as", "colour", "--full-colour", "6")
    assert len(list((work / "out" / "anna_1").glob("flow*.png"))) == 12
    colours = {
        name: np.asarray(Image.open(work / "out" / name / "flow000001.png"))[24, 32].tolist()
        for name in ("anna_1", "anna_2", "bert_1")
    }
    red, green, blue = colours["bert_1"]  # leftwards, in full strength: cyan
    assert red < 20 and green > 150 and blue > 200
    red, green, blue = colours["anna_1"]  # rightwards, a third as fast: a pale red
    assert red > 250 and 150 < green < 200 and 150 < blue < 200
    red, green, blue = colours["anna_2"]  # downwards: yellow
    assert min(red, green) > 200 > blue + 50


def test_names_that_occur_twice_get_their_folder(tmp_path):
    made = [panning(f"{c}/{n}", 1, frames=3) for c in ("wave", "clap") for n in ("1.mp4", "2.mp4")]
    make_set(tmp_path / "data" / "mine", made)
    data("extract", tmp_path / "out", "-w", tmp_path, "--as", "tsn", "--video", "wave/1.mp4")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["wave_1"]


@pytest.mark.parametrize("video_id", ["../../evil.mp4", "/etc/evil.mp4", "wave/...mp4"])
def test_no_id_leads_out_of_the_folder(video_id, tmp_path):
    make_set(tmp_path / "data" / "mine", [panning(video_id, 1, frames=3), panning("x/evil.mp4", 1, frames=3)])
    before = set(tmp_path.rglob("*"))
    data("extract", tmp_path / "out", "-w", tmp_path, "--as", "tsn", "--by-class")
    new = set(tmp_path.rglob("*")) - before
    assert len([p for p in new if p.name == "img_00001.jpg"]) == 2
    assert all(p.is_relative_to(tmp_path / "out") for p in new)


def test_extract_overwrites_only_with_force(work):
    data("extract", work / "out", "-w", work, "--as", "tsn", "--video", "anna_1")
    mark = work / "out" / "anna_1" / "mine.txt"
    mark.write_text("mine")
    before = state(work / "out")
    assert refusal("extract", work / "out", "-w", work, "--as", "tsn", code=2) == (
        f"{work}/out/anna_1: already exists (1 in all); use --force to overwrite, --missing to keep"
    )
    assert state(work / "out") == before

    data("extract", work / "out", "-w", work, "--as", "tsn", "--missing")
    assert sorted(p.name for p in (work / "out").iterdir()) == ["anna_1", "anna_2", "bert_1"]
    assert {k: v for k, v in state(work / "out").items() if k.startswith("anna_1")} == before

    data("extract", work / "out", "-w", work, "--as", "tsn", "--force")
    assert not mark.exists()


def test_a_damaged_video_leaves_no_half_a_folder(work):
    folder = work / "data" / "mine"
    with Store(folder) as store:
        key = (store.video("wave/anna_1.mp4").number << 33) + (1 << 32) + 9
    connection = sqlite3.connect(folder / "shards" / "000.sqlite")
    connection.execute("UPDATE pictures SET jpeg = ? WHERE key = ?", (b"no JPEG", key))
    connection.commit()
    connection.close()
    line = refusal("extract", work / "out", "-w", work, "--as", "tsn")
    assert "wave/anna_1.mp4" in line
    assert [p.name for p in (work / "out").iterdir()] == ["bert_1"]  # whole; the one after it was not begun


def test_extract_into_a_file_is_refused_in_one_line(work):
    (work / "out").write_text("a file")
    assert refusal("extract", work / "out", "-w", work, "--as", "tsn").startswith(f"{work}/out")


def test_extract_wants_a_folder(work):
    result = call("data", "extract", "-w", work)
    assert result.exit_code == 2
    assert "[NAME] OUT" in result.stderr
    assert "too many arguments" in refusal("extract", "a", "b", "c", "-w", work, code=2)


def test_a_set_that_was_moved(work):
    shutil.move(work / "data" / "mine", work / "elsewhere")
    assert "videos       3 ok" in data("info", f"{work}/elsewhere")
