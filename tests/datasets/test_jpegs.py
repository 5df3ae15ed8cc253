"""Frames and flow that other programs have extracted are imported, and a network sees no difference."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import call, errors_of
from helpers.extracted import tsn, two_stream
from helpers.films import film, moving

from stmn.sampling.clips import Clips, Sampling
from stmn.store.format.read import Store

#: motion from frame t to t + 1, (x, y) in pixels; all differ, so that a field at a wrong time is noticed
STEPS = [(2, 0), (-3, 1), (0, 2), (1, -1), (4, 0), (0, -3), (-1, -1), (3, 2), (-2, 0), (1, 3), (0, 0), (2, -2), (-4, 1)]
SIZE = (96, 128)


def pattern() -> tuple[list, list]:
    """Frames of a texture that moves by `STEPS`, and their flow."""
    picture = moving(1, *SIZE, seed=5)[0]
    frames, fields = [picture], []
    for dx, dy in STEPS:
        frames.append(np.roll(frames[-1], (dy, dx), axis=(0, 1)))
        fields.append(np.stack([np.full(SIZE, float(dx)), np.full(SIZE, float(dy))]))
    return frames, fields


def still(count: int, height: int = 40, width: int = 48) -> tuple[list, list]:
    """Small frames and no motion, where only their number matters."""
    return moving(count, height, width), [np.zeros((2, height, width))] * (count - 1)


def prepare(root: Path, work: Path, *arguments: object, name: str = "mine", code: int = 0) -> list[str]:
    result = call("prepare", root, name, "--workers", "1", "-w", work, *arguments)
    assert result.exit_code == code, result.stderr
    return errors_of(result)


def test_imported_flow_reaches_a_network_like_our_own(tmp_path):
    """Sign, scale, order of channels, time, and the sign of u when mirrored, compared with a known motion."""
    frames, fields = pattern()
    for name in ("v_wave_g01_c01", "v_wave_g02_c01"):
        two_stream(tmp_path / "authors", name, frames, fields)
        tsn(tmp_path / "denseflow", name, frames, fields, first=0)
        # TSN's first tool keeps the second frame of each pair
        tsn(tmp_path / "tsn", name, frames[1:], fields)
        film(tmp_path / "videos" / "wave" / f"{name}.mkv", frames, "ffv1", "yuv444p")
    for name in ("authors", "denseflow", "tsn"):
        prepare(tmp_path / name, tmp_path, "--dataset", "jpegs", name=name)
    prepare(tmp_path / "videos", tmp_path, "--short-side", SIZE[0], name="videos")

    sampling = Sampling(
        ("rgb", "flow"), size=64, stack_length=4, chunks=2, stride=(2, 3), augmentation="jitter", seed=3
    )
    levels_a_pixel, scale = 255 / 40, (255 * (0.229 + 0.224 + 0.225) / 3)
    mirrors = set()
    stores = {name: Store(tmp_path / "data" / name) for name in ("videos", "authors", "denseflow", "tsn")}
    for epoch in range(6):
        samples = {}
        for name, store in stores.items():
            videos = sorted(store.videos.values(), key=lambda video: video.id)
            samples[name] = Clips(store, videos, sampling)[(epoch, 0)]
            assert samples[name]["flow"].shape == (2, 8, 64, 64)
        # the motion that each channel shows: u1, v1, u2, v2, ...
        shown = {
            name: sample["flow"].flatten(2).median(dim=2).values * scale / levels_a_pixel
            for name, sample in samples.items()
        }
        for name, pixels in shown.items():
            steps = STEPS[1:] if name == "tsn" else STEPS  # its first frame is the second one
            found = [int(t) for t in matches(pixels, steps)]
            mirrors.add(found[0])
            assert len(found) == 2, f"{name}, epoch {epoch}: {pixels} is no motion at following times"
        for name in ("authors", "denseflow"):
            assert (shown[name] - shown["videos"]).abs().max() < 0.25
            rgb = (samples[name]["rgb"] - samples["videos"]["rgb"]).abs()
            assert rgb.mean() < 0.06, "frames at the same times, mirrored alike"
    assert mirrors == {-1, 1}, "mirrored and not mirrored clips were seen"


def matches(pixels: torch.Tensor, steps: list[tuple[int, int]]) -> list[float]:
    """1 for each chunk, (T, 2L) pixels, that shows successive `steps`; -1 for one that shows them mirrored."""
    found = []
    known = torch.tensor(steps, dtype=torch.float)
    for chunk in pixels.reshape(len(pixels), -1, 2):
        windows = known.unfold(0, len(chunk), 1).transpose(1, 2)
        for sign in (1, -1):
            mirrored = windows * torch.tensor([float(sign), 1.0])
            if ((mirrored - chunk).abs().amax(dim=(1, 2)) < 0.25).sum() == 1:
                found.append(sign)
                break
    return found


def test_frames_are_stored_byte_for_byte_and_flow_nearly(tmp_path):
    frames, fields = pattern()
    fields = [field + np.random.default_rng(0).normal(0, 0.2, field.shape) for field in fields]
    two_stream(tmp_path / "v", "v_wave_g01_c01", frames, fields, bound=8)
    assert prepare(tmp_path / "v", tmp_path, "--dataset", "jpegs", "--bound", "8") == []
    with Store(tmp_path / "data" / "mine") as store:
        preparation = store.header.preparation
        assert (preparation.short_side, preparation.bound, preparation.flow) == (96, 8, "tvl1")
        [video] = store.videos.values()
        assert (video.id, video.class_name, video.group) == ("wave/v_wave_g01_c01", "wave", "g01")
        assert (video.frames, video.height, video.width) == (14, 96, 128)
        files = sorted((tmp_path / "v" / "jpegs_256" / "v_wave_g01_c01").iterdir())
        assert store.jpegs(video.id, 0, range(14)) == [file.read_bytes() for file in files]
        stored = store.fields(video.id, range(13)).float()
        given = torch.from_numpy(np.round(255 * (np.stack(fields) + 8) / 16))
        assert (stored - given).abs().mean() < 1.5
    record = json.loads((tmp_path / "data" / "mine" / "run.json").read_text())
    assert record["options"]["short_side"] == 96


@pytest.mark.parametrize("layout", [two_stream, tsn])
@pytest.mark.parametrize("under", ["", "wave/", "clap/"])
def test_classes_come_from_folders_or_names(under, layout, tmp_path):
    layout(tmp_path / "v", f"{under}v_wave_g03_c01", *still(3))
    prepare(tmp_path / "v", tmp_path, "--dataset", "jpegs")
    with Store(tmp_path / "data" / "mine") as store:
        class_name = under.rstrip("/") or "wave"
        assert [(v.id, v.class_name, v.group) for v in store.videos.values()] == [
            (f"{class_name}/v_wave_g03_c01", class_name, "g03")
        ]


def test_official_lists_give_classes_and_splits(tmp_path, shared_data):
    """Ids are those of the lists, so that scores from videos and from pictures can be combined."""
    for name in ("v_ApplyEyeMakeup_g01_c01", "v_ApplyEyeMakeup_g08_c01"):
        two_stream(tmp_path / "ucf101", name, *still(2))
    shutil.copytree(shared_data / "splits" / "ucf101", tmp_path / "ucf101" / "ucfTrainTestlist")
    prepare(tmp_path / "ucf101", tmp_path, "--dataset", "jpegs", name="u")
    with Store(tmp_path / "data" / "u") as store:
        assert [v.id for v in store.part("1", "test")] == ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"]
        assert [v.id for v in store.part("1", "train")] == ["ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"]
        assert list(store.header.splits) == ["1", "2", "3"]

    name = "TrumanShow_wave_f_nm_np1_fr_med_26"
    tsn(tmp_path / "hmdb51", name, *still(2))
    lists = shared_data / "splits" / "hmdb51"
    prepare(tmp_path / "hmdb51", tmp_path, "--dataset", "jpegs", "--dataset-options", f"lists={lists}", name="h")
    with Store(tmp_path / "data" / "h") as store:
        assert [(v.id, v.group) for v in store.videos.values()] == [(f"wave/{name}.avi", "TrumanShow")]
        assert len(store.header.splits["3"]["train"]) == 3570


def test_csv_gives_classes_and_splits(tmp_path):
    """A row without a folder is a skipped video."""
    for name in ("a", "b.2"):
        tsn(tmp_path / "v", name, *still(3))
    (tmp_path / "v" / "list.csv").write_text(
        "path,class,split\nx/a.avi,wave,train\nx/b.2,clap,test\nx/c.avi,clap,test\n"
    )
    [line] = prepare(tmp_path / "v", tmp_path, "--dataset", "jpegs", "--dataset-options", "csv=list.csv", code=1)
    assert "1 of 3 videos was skipped, the first: 'x/c.avi': " in line
    assert "no frames img_NNNNN.jpg" in line
    with Store(tmp_path / "data" / "mine") as store:
        assert [(v.id, v.class_name) for v in store.part("1", "train")] == [("x/a.avi", "wave")]
        assert [(v.id, v.class_name) for v in store.part("1", "test")] == [("x/b.2", "clap")]


def test_incomplete_video_is_skipped_until_it_is_repaired(tmp_path):
    root, spare = tmp_path / "v", tmp_path / "spare"
    names = ["whole", "no u", "no v", "fewer v", "gap", "flow gap", "no frames"]
    names += ["late", "too many", "broken", "one", "small", "odd size"]
    frames, u, v = root / "jpegs_256", root / "tvl1_flow" / "u", root / "tvl1_flow" / "v"
    folder = {name: f"v_wave_g{number:02d}_c01" for number, name in enumerate(names, 1)}
    for video in folder.values():
        two_stream(root, video, *still(5))
    shutil.move(u / folder["no u"], spare)
    shutil.rmtree(v / folder["no v"])
    (v / folder["fewer v"] / "frame000004.jpg").unlink()
    (frames / folder["gap"] / "frame000002.jpg").unlink()
    for plane in (u, v):
        (plane / folder["flow gap"] / "frame000003.jpg").unlink()
        shutil.copy(plane / folder["whole"] / "frame000001.jpg", plane / folder["too many"] / "frame000005.jpg")
    shutil.rmtree(frames / folder["no frames"])
    for number in (1, 2):
        (frames / folder["late"] / f"frame{number:06d}.jpg").unlink()
    (frames / folder["broken"] / "frame000003.jpg").write_bytes(b"\xff\xd8 no picture")
    for plane in (frames, u, v):
        for file in (plane / folder["one"]).glob("*"):
            if plane != frames or file.name != "frame000001.jpg":
                file.unlink()
    two_stream(root, folder["small"], *still(5, 20, 24))
    shutil.copy(frames / folder["small"] / "frame000001.jpg", frames / folder["odd size"] / "frame000002.jpg")

    [line] = prepare(root, tmp_path, "--dataset", "jpegs", code=1)
    assert "12 of 13 videos were skipped" in line
    expected = {
        "no u": "5 frames, but no flow u", "no v": "5 frames, but no flow v",
        "fewer v": "4 fields of flow u, but 3 of flow v", "gap": "frame 2 of 1 to 5 is missing",
        "flow gap": "flow u 3 of 1 to 4 is missing", "no frames": "no frames frameNNNNN.jpg",
        "late": "the first frame has number 3, not 0 or 1", "too many": "5 frames need 4 flow fields, not 5",
        "broken": "frame000003.jpg: not a readable JPEG", "one": "a single frame; flow needs two",
        "small": "is 24x20, but the short side of this set is 40", "odd size": "is 24x20, but the video's first frame is 48x40",
    }  # fmt: skip
    with Store(tmp_path / "data" / "mine") as store:
        assert [i for i, v in store.videos.items() if v.status == "ok"] == [f"wave/{folder['whole']}"]
        for name, words in expected.items():
            assert words in store.videos[f"wave/{folder[name]}"].reason
    shutil.move(spare, u / folder["no u"])
    [line] = prepare(root, tmp_path, "--dataset", "jpegs", code=1)
    assert "11 of 13 videos were skipped" in line


@pytest.mark.parametrize(("make", "arguments", "words"), [
    (lambda root: root.mkdir(), [], "no known layout of frames and flow"),
    (lambda root: (root / "jpegs_256").mkdir(parents=True), [], "tvl1_flow: missing beside jpegs_256"),
    (lambda root: tsn(root, "abc", *still(2)), [], "no class for 1 video, the first: 'abc'"),
    (lambda root: tsn(root, "wave/abc", *still(2)), ["--camera-motion", "subtract"], "comes with flow: its camera motion"),
    (lambda root: tsn(root, "wave/abc", *still(2)), ["--dataset-options", "lists=none"], "none: no such folder of lists"),
    (lambda root: tsn(root, "wave/abc", *still(2)), ["--dataset-options", "csv=none.csv"], "none.csv: no such CSV file"),
])  # fmt: skip
def test_failed_import_is_one_line(make, arguments, words, tmp_path):
    make(tmp_path / "v")
    result = call("prepare", tmp_path / "v", "mine", "--dataset", "jpegs", *arguments, "-w", tmp_path)
    [line] = errors_of(result)
    assert words in line
    assert not (tmp_path / "data").exists()


def test_imported_set_can_be_trained_on(tmp_path):
    for part in range(4):
        for name in ("wave", "clap"):
            two_stream(tmp_path / "v", f"v_{name}_g{part:02d}_c01", *still(13))
    prepare(tmp_path / "v", tmp_path, "--dataset", "jpegs")
    tiny = "--arch resnet18 --width 0.125 --size 32 --steps 1 --batch 2 --micro-batch 2 --weights none --schedule cosine --validation 0"
    result = call("train-stream", "--modality", "flow", *tiny.split(), "-w", tmp_path)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(("classes", "groups"), [
    (("TaiChi", "YoYo"), {"TaiChi_g01", "YoYo_g01"}),
    (("hug", "kick"), {"g01"}),
])  # fmt: skip
def test_groups_are_those_that_the_videos_themselves_would_have(classes, groups, tmp_path):
    """In UCF101 `g01` is another recording in each class, with or without its lists."""
    for name in classes:
        tsn(tmp_path / "v", f"v_{name}_g01_c01", *still(2))
    prepare(tmp_path / "v", tmp_path, "--dataset", "jpegs")
    with Store(tmp_path / "data" / "mine") as store:
        assert {video.group for video in store.videos.values()} == groups
    prepare(tmp_path / "v", tmp_path, "--dataset", "jpegs", "--dataset-options", "groups=shared")
    with Store(tmp_path / "data" / "mine") as store:
        assert {video.group for video in store.videos.values()} == {"g01"}
