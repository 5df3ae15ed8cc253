"""`stmn prepare`: videos to a packed set. Each file ends in it, or is skipped with a reason."""

import json
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.commands import call, errors_of
from helpers.films import count_frames, film, moving, sound
from PIL import Image

from stmn.datasets.folder import Folder
from stmn.datasets.hmdb51 import HMDB51
from stmn.datasets.ucf101 import UCF101
from stmn.errors import DataError
from stmn.flow.grey import to_grey
from stmn.flow.quantise import dequantise
from stmn.flow.tvl1 import tvl1
from stmn.store.format.header import read_header
from stmn.store.format.read import Store
from stmn.video.decode import decode_video

SMALL = {"--short-side": "32", "--workers": "2"}
TINY = [
    "--arch", "resnet18", "--width", "0.125", "--size", "32", "--steps", "1", "--batch", "2", "--micro-batch", "2",
    "--chunks", "2", "--validation", "0", "--weights", "none", "--schedule", "cosine",
]  # fmt: skip


def prepare(videos: Path, work: Path, *arguments: object, code: int = 0) -> list[str]:
    """Prepare a folder as the set `mine`; returns the error lines."""
    defaults = [item for flag, value in SMALL.items() if flag not in arguments for item in (flag, value)]
    result = call("prepare", videos, "mine", "-w", work, *defaults, *arguments)
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    return errors_of(result)


def opened(work: Path) -> Store:
    return Store(work / "data" / "mine")


def record(work: Path) -> dict:
    return json.loads((work / "data" / "mine" / "run.json").read_text())


def counts(work: Path) -> dict[str, int]:
    """The numbers in the record."""
    return {key: value for key, value in record(work)["results"].items() if isinstance(value, int)}


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its modification time and its bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


# where videos, classes and splits come from


def test_a_folder_of_classes(tmp_path):
    for name in ("wave", "clap"):
        for number in range(10):
            film(tmp_path / "v" / name / f"{number}.mp4", moving(2, 32, 32))
    (tmp_path / "v" / "wave" / "notes.txt").write_text("not a video's ending: not looked at")
    prepare(tmp_path / "v", tmp_path, "--flow", "farneback")
    with opened(tmp_path) as store:
        header = store.header
        assert header.classes == ["clap", "wave"]
        assert sorted(store.videos) == sorted(f"{c}/{n}.mp4" for c in header.classes for n in range(10))
        assert {v.class_name for v in store.part("1", "train")} == {"clap", "wave"}
        # three of ten videos of each class are for testing
        assert [sum(i.startswith(c) for i in header.part("1", "test")) for c in header.classes] == [3, 3]
        assert sorted(header.part("1", "train") + header.part("1", "test")) == sorted(store.videos)


def test_new_video_moves_no_other_between_parts(tmp_path):
    for number in range(10):
        (tmp_path / "wave").mkdir(exist_ok=True)
        (tmp_path / "wave" / f"{number}.mp4").touch()
    before = Folder(tmp_path).splits()["1"]
    (tmp_path / "wave" / "new.mp4").touch()
    after = Folder(tmp_path).splits()["1"]
    moved = [i for part in ("train", "test") for i in before[part] if i not in after[part]]
    assert moved == []


def test_a_folder_with_its_own_split(tmp_path):
    for part, count in (("train", 2), ("test", 1)):
        for number in range(count):
            film(tmp_path / "v" / part / "wave" / f"{number}.mp4", moving(2, 32, 32))
    prepare(tmp_path / "v", tmp_path, "--flow", "farneback")
    header = opened(tmp_path).header
    assert header.splits == {"1": {"train": ["train/wave/0.mp4", "train/wave/1.mp4"], "test": ["test/wave/0.mp4"]}}
    assert header.classes == ["wave"]


def test_ucf101_as_it_is_published(tmp_path, shared_data):
    root = tmp_path / "UCF101"
    for name in ("v_ApplyEyeMakeup_g01_c01.avi", "v_SoccerJuggling_g23_c01.avi"):
        (root / "UCF-101" / name.split("_")[1]).mkdir(parents=True)
        shutil.copy(shared_data / "clips" / name, root / "UCF-101" / name.split("_")[1])
    (root / "ucfTrainTestlist").mkdir()
    for part in ("train", "test"):
        for number in ("01", "02"):
            shutil.copy(shared_data / "splits" / "ucf101" / f"{part}list{number}.txt", root / "ucfTrainTestlist")
    prepare(root, tmp_path, "--dataset", "ucf101", "--flow", "farneback")
    with opened(tmp_path) as store:
        assert store.header.classes == ["ApplyEyeMakeup", "SoccerJuggling"]
        assert store.header.dataset["name"] == "ucf101"
        [tested] = store.part("1", "test")
        [trained] = store.part("1", "train")
        assert (tested.id, tested.group) == ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "ApplyEyeMakeup_g01")
        assert (trained.id, trained.group) == ("SoccerJuggling/v_SoccerJuggling_g23_c01.avi", "SoccerJuggling_g23")
        assert store.header.keeps == ["crop", "mirror"]
        with pytest.raises(DataError, match="has no split '3'; it has: 1, 2"):
            store.part("3", "test")


def test_hmdb51_as_it_is_published(tmp_path, shared_data):
    clip = "TrumanShow_wave_f_nm_np1_fr_med_26.avi"
    (tmp_path / "hmdb51_org" / "wave").mkdir(parents=True)
    shutil.copy(shared_data / "clips" / clip, tmp_path / "hmdb51_org" / "wave")
    lists = shared_data / "splits" / "hmdb51"
    prepare(tmp_path, tmp_path, "--dataset", "hmdb51", "--dataset-options", f"lists={lists}", "--flow", "farneback")
    with opened(tmp_path) as store:
        [video] = store.videos.values()
        assert (video.id, video.class_name, video.group) == (f"wave/{clip}", "wave", "TrumanShow")
        assert sum(video.id in ids for ids in store.header.splits["1"].values()) <= 1
        listed = [line.split() for line in (lists / "wave_test_split1.txt").read_text().splitlines()]
        part = {"1": "train", "2": "test"}[dict(listed)[clip]]
        assert store.part("1", part) == [video]


@pytest.mark.parametrize(("plugin", "folder", "counts"), [
    (UCF101, "ucf101", [(9537, 3783), (9586, 3734), (9624, 3696)]),
    (HMDB51, "hmdb51", [(3570, 1530), (3570, 1530), (3570, 1530)]),
])  # fmt: skip
def test_official_splits_are_exact(plugin, folder, counts, tmp_path, shared_data):
    splits = plugin(tmp_path, lists=shared_data / "splits" / folder).splits()
    assert list(splits) == ["1", "2", "3"]
    for number, (train, test) in zip(splits, counts, strict=True):
        parts = splits[number]
        assert (len(parts["train"]), len(parts["test"])) == (train, test)
        assert len(set(parts["train"]) | set(parts["test"])) == train + test, "no video twice, none on both sides"
        assert all(i.count("/") == 1 and i.endswith(".avi") for i in parts["train"] + parts["test"])


def test_real_groups_stay_on_one_side(shared_data):
    dataset = UCF101(shared_data / "ut_interaction")
    videos = {v.id: v for v in dataset.videos()}
    assert len(videos) == 60
    for parts in dataset.splits().values():
        train, test = ({videos[i].group for i in parts[part]} for part in ("train", "test"))
        assert train
        assert test
        assert not train & test


def test_lists_that_are_missing_are_named(tmp_path):
    (tmp_path / "v" / "wave").mkdir(parents=True)
    (tmp_path / "v" / "wave" / "a.avi").touch()
    for dataset, wanted in (("ucf101", "trainlist01.txt"), ("hmdb51", "CLASS_test_split1.txt")):
        [line] = prepare(tmp_path / "v", tmp_path, "--dataset", dataset, code=1)
        assert line == f"{tmp_path / 'v'}: no {wanted}; name the folder with --dataset-options lists=FOLDER"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("arguments", "line"), [
    (["nowhere"], "nowhere: no such folder of videos"),
    (["."], ".: no videos in folders named after classes (CLASS/VIDEO.mp4)"),
    ([], "data set 'folder' needs a folder of videos: stmn prepare VIDEOS NAME"),
    ([".", "--dataset", "ucf"], "unknown dataset 'ucf' (did you mean 'ucf101'?); known: "),
    ([".", "--dataset-options", "shares=1"], "data set 'folder' has no option 'shares' (did you mean 'test_share'?)"),
    (["--dataset", "synthetic", "--dataset-options", "train=many"], "data set 'synthetic': train = 'many': must be a whole number"),
    ([".", "--dataset-options", "shares"], "--dataset-options shares: write KEY=VALUE"),
])  # fmt: skip
def test_nothing_to_prepare_writes_nothing(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("prepare", *arguments, "-w", tmp_path)
    assert result.exit_code in (1, 2)
    assert len(errors_of(result)) == 1
    assert line.removeprefix(".") in errors_of(result)[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("written", [["train=6,test=4"], ["train=6", "test=4"], ["train=6, test=4"]])
def test_plugin_options_take_commas_or_blanks(written, tmp_path):
    small = ["--dataset", "synthetic", "--short-side", 36, "--flow", "farneback"]
    result = call("prepare", *small, "--dataset-options", *written, "--workspace", tmp_path)
    assert result.exit_code == 0, result.output
    assert set(read_header(tmp_path / "data" / "synthetic").dataset_options.items()) == {("train", 6), ("test", 4)}


# what becomes of each file


def cut(source: Path, target: Path, share: float) -> None:
    data = source.read_bytes()
    target.write_bytes(data[: round(share * len(data))])


def test_every_file_is_prepared_or_skipped_with_a_reason(tmp_path):
    folder = tmp_path / "v" / "my class"
    good = film(folder / "plain.mp4", moving(3, 32, 40))
    for name in ("two words.mp4", 'it\'s "quoted".mp4', "🎬 née.mp4", "two\nlines.mp4", "a:b%02d?.mp4", "-n.mp4"):
        shutil.copy(good, folder / name)
    shutil.copy(good, os.fsencode(folder) + b"/latin\xe9.mp4")  # bytes that are no UTF-8
    prepared = {f"my class/{n}" for n in ("plain.mp4", "two words.mp4", 'it\'s "quoted".mp4', "🎬 née.mp4")}
    prepared |= {f"my class/{n}" for n in ("two\nlines.mp4", "a:b%02d?.mp4", "-n.mp4", "latin\\xe9.mp4")}

    (folder / "text.avi").write_text("This is no video.\n" * 100)
    (folder / "nothing.avi").touch()
    sound(folder / "sound.mp4")
    cut(film(tmp_path / "whole.mp4", moving(30)), folder / "cut.mp4", 0.8)  # its index, at the end, is missing
    film(folder / "still.avi", moving(1))
    # an AVI that breaks off is readable up to that point, but shorter than its header says
    half = film(tmp_path / "half.avi", moving(100), "mjpeg", "yuvj420p").read_bytes()
    (folder / "half.avi").write_bytes(half[: half.index(b"00dc", len(half) // 2)])
    (folder / "broken\nname.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
    reasons = {
        "my class/text.avi": "Invalid data",
        "my class/nothing.avi": "Invalid data",
        "my class/sound.mp4": "holds no video stream",
        "my class/cut.mp4": "Invalid data",
        "my class/still.avi": "holds a single frame; flow needs two",
        "my class/broken\nname.mkv": "not a readable video",
        "my class/half.avi": "of 100 frames",
    }
    [line] = prepare(tmp_path / "v", tmp_path, code=1)
    assert "7 of 15 videos were skipped, the first: " in line
    assert "--allow-failures 7 accepts this" in line
    with opened(tmp_path) as store:
        ok = {v.id: v for v in store.videos.values() if v.status == "ok"}
        skipped = {v.id: v for v in store.videos.values() if v.status == "skipped"}
        assert set(ok) == prepared
        assert set(skipped) == set(reasons)
        for video_id, words in reasons.items():
            assert words in skipped[video_id].reason
            assert "\n" not in skipped[video_id].reason
            with pytest.raises(DataError, match="was skipped: "):
                store.video(video_id)
        for video in ok.values():
            assert video.frames == 3
            assert store.fields(video.id, range(video.frames - 1)).shape[0] == video.frames - 1

    # the set can't be used by accident
    result = call("train-stream", *TINY, "-w", tmp_path)
    assert result.exit_code == 1
    assert "7 of 15 videos were skipped" in errors_of(result)[0]

    # accepted, or repaired
    assert prepare(tmp_path / "v", tmp_path, "--allow-failures", "6", code=1)
    assert prepare(tmp_path / "v", tmp_path, "--allow-failures", "7") == []
    frames = sum(video.frames for video in ok.values())
    assert counts(tmp_path) == {"videos": 15, "ok": 8, "skipped": 7, "frames": frames}
    for video_id in reasons:
        (tmp_path / "v" / video_id).unlink()
    assert prepare(tmp_path / "v", tmp_path) == []
    assert record(tmp_path)["results"]["ok"] == record(tmp_path)["results"]["videos"] == 8


def test_real_clips_frame_by_frame(tmp_path, shared_data):
    """UCF101, HMDB51 (one with metadata that is no UTF-8), Kinetics and KTH clips; n frames make n - 1 flow fields."""
    (tmp_path / "v").mkdir()
    shutil.copytree(shared_data / "clips", tmp_path / "v" / "clips")
    prepare(tmp_path / "v", tmp_path)
    with opened(tmp_path) as store:
        assert len(store.videos) == 6
        for video in store.videos.values():
            path = tmp_path / "v" / video.id
            assert (video.status, video.reason) == ("ok", "")
            assert video.frames == count_frames(path)
            assert min(video.width, video.height) == 32
            assert video.width / video.height == pytest.approx(video.source_width / video.source_height, rel=0.02)
            assert store.frames(video.id, [0, video.frames - 1]).shape == (2, 3, video.height, video.width)
            assert store.fields(video.id, [0, video.frames - 2]).shape == (2, 2, video.height, video.width)
            for read, time in ((store.frames, video.frames), (store.fields, video.frames - 1)):
                with pytest.raises(DataError, match="lacks a"):
                    read(video.id, [time])

        # the right frames in the right order and colours
        video = store.video("clips/v_SoccerJuggling_g23_c01.avi")
        with av.open(str(tmp_path / "v" / video.id)) as container:
            decoded = [frame.to_image() for frame in container.decode(video=0)]
        for time in (0, 1, 120, 239):
            expected = np.asarray(decoded[time].resize((video.width, video.height), Image.Resampling.BICUBIC), float)
            stored = store.frames(video.id, [time])[0].permute(1, 2, 0).numpy()
            assert np.abs(stored - expected).mean() < 5


@pytest.mark.parametrize(("height", "width", "codec", "pix_fmt", "stored"), [
    (37, 51, "ffv1", "gray", (32, 44)),  # odd and grey
    (51, 37, "ffv1", "yuv420p", (44, 32)),  # upright
    (24, 80, "mpeg4", "yuv420p", (32, 107)),  # smaller than the stored size
    (64, 64, "libx264", "yuv444p", (32, 32)),
])  # fmt: skip
def test_any_size_and_pixel_format(height, width, codec, pix_fmt, stored, tmp_path):
    film(tmp_path / "v" / "wave" / "a.mkv", moving(4, height, width), codec, pix_fmt)
    prepare(tmp_path / "v", tmp_path)
    with opened(tmp_path) as store:
        [video] = store.videos.values()
        assert (video.source_height, video.source_width) == (height, width)
        frames, fields = store.frames(video.id, range(4)), store.fields(video.id, range(3))
        assert frames.shape == (4, 3, *stored)
        assert fields.shape == (3, 2, *stored)
        colour = frames.float().std(dim=1).mean()
        assert (colour < 2) if pix_fmt == "gray" else (colour > 5)


def test_video_that_changes_size_is_skipped_with_a_reason(tmp_path):
    first = film(tmp_path / "a.ts", moving(20, 32, 32), "mpeg2video").read_bytes()
    second = film(tmp_path / "b.ts", moving(20, 32, 64), "mpeg2video").read_bytes()
    (tmp_path / "v" / "wave").mkdir(parents=True)
    (tmp_path / "v" / "wave" / "both.ts").write_bytes(first + second)
    [line] = prepare(tmp_path / "v", tmp_path, code=1)
    assert "1 of 1 video was skipped, the first: 'wave/both.ts': " in line


# what is stored


def test_flow_is_stored_in_levels_of_the_bound(tmp_path):
    film(tmp_path / "v" / "right" / "a.mkv", moving(6, 32, 48, dx=2), "ffv1")
    film(tmp_path / "v" / "up" / "a.mkv", moving(6, 32, 48, dx=0, dy=-1), "ffv1")
    prepare(tmp_path / "v", tmp_path, "--bound", "5")
    with opened(tmp_path) as store:
        assert store.header.preparation.bound == 5
        for name, moved in (("right", (2, 0)), ("up", (0, -1))):
            flow = dequantise(store.fields(f"{name}/a.mkv", range(5)), 5)[:, :, 8:-8, 8:-8]
            assert flow.mean(dim=(0, 2, 3)).tolist() == pytest.approx(moved, abs=0.1)


def test_flow_beyond_the_bound_is_clipped(tmp_path):
    film(tmp_path / "v" / "right" / "a.mkv", moving(3, 32, 48, dx=2), "ffv1")
    prepare(tmp_path / "v", tmp_path, "--bound", "1", "--quality", "100")
    with opened(tmp_path) as store:
        levels = store.fields("right/a.mkv", [0, 1])[:, 0, 8:-8, 8:-8]
        assert levels.float().mean() > 253


def test_camera_motion_can_be_subtracted(tmp_path):
    film(tmp_path / "v" / "right" / "a.mkv", moving(6, 32, 48, dx=2), "ffv1")
    prepare(tmp_path / "v", tmp_path, "--bound", "5", "--camera-motion", "subtract")
    with opened(tmp_path) as store:
        flow = dequantise(store.fields("right/a.mkv", range(5)), 5)[:, :, 8:-8, 8:-8]
        assert flow.abs().mean() < 0.1


def test_header_records_how_the_set_was_prepared(tmp_path):
    film(tmp_path / "v" / "wave" / "a.mp4", moving(3))
    prepare(tmp_path / "v", tmp_path, "--flow", "farneback", "--bound", "7.5", "--quality", "90")
    header = json.loads((tmp_path / "data" / "mine" / "dataset.json").read_text())
    assert header["preparation"] == {
        "short_side": 32, "flow": "farneback", "flow_options": {}, "bound": 7.5, "quality": 90, "camera_motion": "keep",
    }  # fmt: skip
    assert header["dataset"] == {"kind": "dataset", "name": "folder", "package": "stmn", "version": "0.1.0"}
    assert (header["name"], header["classes"], header["format"]) == ("mine", ["wave"], 2)
    assert record(tmp_path)["status"] == "done"


# doing it again


def test_again_does_only_what_is_new(tmp_path):
    film(tmp_path / "v" / "wave" / "a.mp4", moving(3))
    prepare(tmp_path / "v", tmp_path, "--workers", "1")
    shards = tmp_path / "data" / "mine" / "shards"
    before = state(shards)
    prepare(tmp_path / "v", tmp_path)
    assert state(shards) == before

    film(tmp_path / "v" / "clap" / "b.mp4", moving(4))
    assert prepare(tmp_path / "v", tmp_path) == []
    with opened(tmp_path) as store:
        assert {v.id: (v.status, v.frames) for v in store.videos.values()} == {
            "wave/a.mp4": ("ok", 3), "clap/b.mp4": ("ok", 4),
        }  # fmt: skip
        assert store.header.classes == ["clap", "wave"]
    assert counts(tmp_path) == {"videos": 2, "ok": 2, "skipped": 0, "frames": 7}


@pytest.mark.parametrize(("flag", "value", "words"), [
    ("--bound", "7", "bound = 20.0, not 7.0"), ("--short-side", "48", "short_side = 32, not 48"),
    ("--flow", "farneback", "flow = 'tvl1', not 'farneback'"), ("--quality", "50", "quality = 95, not 50"),
    ("--camera-motion", "subtract", "camera_motion = 'keep', not 'subtract'"),
    ("--flow-options", "warps=5", "flow_options = {}, not {'warps': 5}"),
])  # fmt: skip
def test_pictures_prepared_differently_are_never_mixed(flag, value, words, tmp_path):
    film(tmp_path / "v" / "wave" / "a.mp4", moving(3))
    prepare(tmp_path / "v", tmp_path)
    before = state(tmp_path / "data")
    [line] = prepare(tmp_path / "v", tmp_path, flag, value, code=2)
    assert line == (
        f"{tmp_path / 'data' / 'mine'}: was prepared with {words}; choose another name for the new set, or delete that folder"
    )
    assert state(tmp_path / "data") == before


def test_flow_takes_its_options(tmp_path):
    """They have the same effect as on the estimator itself, and the set records them."""
    path = film(tmp_path / "v" / "wave" / "a.avi", moving(3))
    knobs = ["--flow-options", "lambda=0.02", "--flow-options", "warps=1"]
    prepare(tmp_path / "v", tmp_path, *knobs, "--bound", "2")  # levels of 0.016 px
    with opened(tmp_path) as store:
        assert store.header.preparation.flow_options == {"lambda": 0.02, "warps": 1}
        stored = dequantise(store.fields("wave/a.avi", [0]), 2.0)
    first, second, _ = to_grey(torch.from_numpy(np.stack(list(decode_video(path, 32))))).split(1)
    usual, chosen = (tvl1(first, second, **more) for more in ({}, {"lambda_": 0.02, "warps": 1}))
    assert (stored - chosen).abs().mean() < 0.5 * (stored - usual).abs().mean()


@pytest.mark.parametrize(("flow", "option", "line"), [
    ("tvl1", "wraps=5", "flow 'tvl1' has no option 'wraps' (did you mean 'warps'?); it has: lambda, theta, tau, "),
    ("tvl1", "warps=many", "flow 'tvl1': warps = 'many': must be a whole number"),
    ("tvl1", "tau=0.5", "tvl1: tau is 0.5; it must be "),
    ("dis", "preset=slow", "dis: preset is 'slow'; it must be ultrafast, fast or medium"),
])  # fmt: skip
def test_wrong_flow_options_are_refused_before_any_write(flow, option, line, tmp_path):
    film(tmp_path / "v" / "wave" / "a.avi", moving(3))
    [said] = prepare(tmp_path / "v", tmp_path, "--flow", flow, "--flow-options", option, code=2)
    assert said.startswith(line)
    assert not (tmp_path / "data").exists()


def test_short_videos_can_be_trained_on(tmp_path):
    for name, frames in (("wave", 2), ("clap", 3)):
        film(tmp_path / "v" / "train" / name / "a.mp4", moving(frames, 40, 40))
        film(tmp_path / "v" / "test" / name / "b.mp4", moving(frames, 40, 40, seed=1))
    prepare(tmp_path / "v", tmp_path)
    result = call("train-stream", "--modality", "flow", *TINY, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert call("evaluate", "-w", tmp_path).exit_code == 0
