"""`stmn features`: what a network's classifiers read, one row per window, in one file for many videos."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import call, errors_of
from helpers.films import film, moving
from helpers.predicting import model_of
from numpy.typing import NDArray
from safetensors.numpy import load_file

import stmn
from stmn.runtime.tensor_files import read_metadata


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two videos of 2.4 and 0.4 seconds, and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    film(folder / "a.mkv", moving(30) + moving(30, dx=-2, seed=1), "ffv1", "yuv444p")
    film(folder / "b.mkv", moving(10, seed=2), "ffv1", "yuv444p")
    (folder / "broken.mkv").write_bytes((folder / "a.mkv").read_bytes()[:2000])
    return folder


def features(path: Path, *arguments: object) -> dict[str, NDArray]:
    """What `stmn features ... --out PATH` writes."""
    made = call("features", *arguments, "--out", path)
    assert made.exit_code == 0, made.stderr
    return load_file(path) if path.suffix == ".safetensors" else dict(np.load(path))


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
def test_classifiers_make_logits_of_the_features(ending, trained, videos, tmp_path):
    """A classifier is linear: of the features of a window it makes the window's logits."""
    path, a, b = model_of(trained, "fused"), videos / "a.mkv", videos / "b.mkv"
    found = features(tmp_path / f"f{ending}", path, a, b, "--window", 1, "--step", 0.5)
    keys = {f"{video}/{name}" for video in (a, b) for name in ("appearance", "motion", "times")}
    assert set(found) - {"about"} == keys
    model = stmn.load(path)
    for video, windows in ((a, 4), (b, 1)):
        expected = list(model.windows(video, 1, 0.5))
        assert found[f"{video}/times"].tolist() == [[w.start, w.end] for w in expected] and len(expected) == windows
        outputs = []
        for name in model.network.names:
            rows = torch.from_numpy(found[f"{video}/{name}"])
            assert rows.dtype == torch.float32 and rows.shape == (windows, 128) and bool(rows.std(dim=1).gt(0).all())
            outputs.append(model.network.stream(name).fc(rows))
        mean = torch.stack(outputs).mean(dim=0)
        torch.testing.assert_close(mean, torch.stack([w.logits for w in expected]), rtol=0, atol=1e-4)


def test_whole_videos_have_one_row(trained, videos, tmp_path):
    path, a = model_of(trained, "motion"), videos / "a.mkv"
    found = features(tmp_path / "f.safetensors", path, a, "--whole")
    model = stmn.load(path)
    assert found[f"{a}/times"].tolist() == [[0, 2.4]] and set(found) == {f"{a}/times", f"{a}/motion"}
    logits = model.network.stream("motion").fc(torch.from_numpy(found[f"{a}/motion"]))
    torch.testing.assert_close(logits[0], model.logits(a)[0], rtol=0, atol=1e-4)
    [row] = model.features(a, length=None)
    torch.testing.assert_close(row.streams["motion"][None], torch.from_numpy(found[f"{a}/motion"]), rtol=0, atol=0)


def test_features_tell_how_they_were_made(trained, videos, tmp_path):
    path = model_of(trained, "fused")
    features(tmp_path / "f.safetensors", path, videos / "a.mkv", "--stream", "appearance")
    about = read_metadata(tmp_path / "f.safetensors")["features"]
    assert about["model"] == str(path) and (about["window"], about["step"]) == (1, 1)
    assert about["videos"] == [str(videos / "a.mkv")] and about["failed"] == {}
    found = features(tmp_path / "f.npz", path, videos / "a.mkv", "--stream", "appearance")
    assert json.loads(str(found["about"]))["features"] == about
    assert set(found) == {"about", f"{videos / 'a.mkv'}/appearance", f"{videos / 'a.mkv'}/times"}


def test_mirrors_are_averaged_if_they_keep_all_classes(trained, videos):
    """Where left and right change places, the mean over mirrors would not tell them apart."""
    model = stmn.load(model_of(trained, "fused"))
    [plain] = model.features(videos / "b.mkv")
    values = vars(model.description) | {"keeps": ["mirror"]}
    model.description = type(model.description)(**values)
    [mirrored] = model.features(videos / "b.mkv")
    assert not torch.equal(plain.streams["motion"], mirrored.streams["motion"])
    model.description = type(model.description)(**(values | {"mirror_pairs": {"left": "right", "right": "left"}}))
    [exchanged] = model.features(videos / "b.mkv")
    assert torch.equal(plain.streams["motion"], exchanged.streams["motion"])


def test_video_that_fails_costs_itself_alone(trained, videos, tmp_path):
    path, out = model_of(trained, "motion"), tmp_path / "f.npz"
    made = call("features", path, videos / "a.mkv", videos / "broken.mkv", videos / "b.mkv", "--out", out)
    assert made.exit_code == 1 and errors_of(made)[0].startswith(f"{videos / 'broken.mkv'}: ")
    found = dict(np.load(out))
    about = json.loads(str(found["about"]))["features"]
    assert about["videos"] == [str(videos / name) for name in ("a.mkv", "b.mkv")]
    assert list(about["failed"]) == [str(videos / "broken.mkv")]
    [b] = stmn.load(path).features(videos / "b.mkv")
    np.testing.assert_array_equal(found[f"{videos / 'b.mkv'}/motion"][0], b.streams["motion"].numpy())
    assert [p.name for p in tmp_path.iterdir()] == ["f.npz"]
    none = call("features", path, videos / "broken.mkv", "--out", tmp_path / "none.npz")
    assert none.exit_code == 1 and not (tmp_path / "none.npz").exists()


@pytest.mark.parametrize(("flags", "words"), [
    (("--out", "f.pt"), "--out f.pt: the name must end in .safetensors or .npz"),
    (("--out", "f.npz", "--window", 0), "--window 0: must be a number of seconds above 0"),
    (("--out", "f.npz", "--whole", "--step", 1), "--whole has no windows: leave out --window and --step"),
    (("--out", "f.npz", "a.mkv"), "a.mkv: is named twice: a file of features has each video once"),
    (("--out", "f.npz", "0"), "camera 0: has no end, and features are written at the end: name a file"),
    (("--out", "there.npz"), "there.npz: already exists; use --force to overwrite it"),
])  # fmt: skip
def test_wrong_options_are_one_line(flags, words, trained, videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("there.npz").touch()
    Path("a.mkv").symlink_to(videos / "a.mkv")
    refused = call("features", model_of(trained, "motion"), "a.mkv", *flags)
    assert (refused.exit_code, errors_of(refused)) == (2, [words])
