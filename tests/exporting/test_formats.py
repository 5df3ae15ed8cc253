"""PyTorch's programs, OpenVINO's graphs and model files for others: checked, readable, and refused when damaged."""

import io
import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import run_stage
from helpers.commands import call, errors_of
from helpers.predicting import lines, model_of

from stmn.nets.checkpoint import load_checkpoint, read_description

pytest.importorskip("openvino")

FORMATS = ["pt2", "openvino", "safetensors"]


@pytest.fixture
def clip(shipped) -> Path:
    """A test video."""
    return min((shipped.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))


def copied(path: Path, folder: Path) -> Path:
    """A copy of a file, and of what belongs to it."""
    for file in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(file, folder)
    return folder / path.name


@pytest.mark.parametrize("name", FORMATS)
def test_file_alone_gives_the_models_scores(name, shipped, exported, clip, tmp_path):
    alone = copied(exported[name], tmp_path)
    [theirs], [ours] = (lines(model, clip, "--chunks", 3) for model in (alone, model_of(shipped, "appearance")))
    assert theirs["scores"] == pytest.approx(ours["scores"], abs=1e-4)


def test_program_runs_with_torch_alone(shipped, exported):
    program = torch.export.load(exported["pt2"]).module()
    network = load_checkpoint(model_of(shipped, "appearance"))[0].eval()
    for shape in ((1, 1, 3, 37, 37), (3, 4, 3, 40, 61)):
        given = torch.randn(shape)
        with torch.inference_mode():
            torch.testing.assert_close(program(given)[0], network(given)[0], rtol=1e-4, atol=1e-5)


def test_openvino_has_a_graph_and_weights_that_are_copied_together(shipped, exported, tmp_path):
    assert sorted(path.suffix for path in exported["openvino"].parent.iterdir()) == [".bin", ".json", ".xml"]
    run_stage(shipped, "export", model="appearance", format="openvino", copy_to=tmp_path / "ship" / "net.xml")
    assert sorted(path.name for path in (tmp_path / "ship").iterdir()) == ["net.bin", "net.xml"]
    assert call("predict", tmp_path / "ship" / "net.xml", "x.avi").exit_code == 1  # for want of a video alone


def test_model_file_for_others_names_no_training_videos(shipped, exported):
    ours, theirs = read_description(model_of(shipped, "appearance")), read_description(exported["safetensors"])
    assert ours.trained_on.videos and not theirs.trained_on.videos
    assert theirs.trained_on.count == len(ours.trained_on.videos)
    assert theirs.trained_on.split_hash == ours.trained_on.split_hash
    content = exported["safetensors"].read_bytes()
    assert not any(video.encode() in content for video in ours.trained_on.videos)


def test_model_file_of_half_the_size_can_be_used(own, tmp_path):
    run = run_stage(own, "export", model="appearance", format="safetensors", half=True)
    assert run.results["bytes"] < 0.55 * model_of(own, "appearance").stat().st_size
    assert 0 < run.results["relative_difference"] < 1e-2
    load_checkpoint(run.output("export"))


@pytest.mark.parametrize("name", ["pt2", "openvino"])
def test_wrong_bit_is_found(name, exported, clip, tmp_path):
    path = copied(exported[name], tmp_path)
    for file in tmp_path.iterdir():
        if file.suffix == ".json":
            continue
        content = bytearray(file.read_bytes())
        for place in range(200, len(content), len(content) // 5):
            changed = content.copy()
            changed[place] ^= 1
            file.write_bytes(changed)
            [error] = errors_of(call("predict", path, clip))
            assert error.startswith(f"{path}: ") and ("damaged" in error or "metadata" in error), (place, error)
        file.write_bytes(content)


def test_half_of_openvinos_files_is_not_enough(exported, clip, tmp_path):
    path = copied(exported["openvino"], tmp_path)
    path.with_suffix(".bin").unlink()
    [error] = errors_of(call("predict", path, clip))
    assert "model.bin" in error and "OpenVINO's format has two files, model.xml and model.bin" in error


def test_program_that_would_run_code_is_refused(exported, clip, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "model.pt2"
    buffer = io.BytesIO()
    torch.save(Evil(), buffer, pickle_module=pickle)
    with zipfile.ZipFile(exported["pt2"]) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if "extra" not in name:
                target.writestr(name, buffer.getvalue() if name.endswith(".pt") else source.read(name))
    [error] = errors_of(call("predict", path, clip))
    assert error == f"{path}: holds a pickle, which may run code; export it again"
    assert not (tmp_path / "ran").exists()


def test_files_of_other_programs_are_refused(clip, tmp_path):
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "model.pt2")
    (tmp_path / "model.xml").write_text("<net/>")
    for name in ("model.pt2", "model.xml"):
        [error] = errors_of(call("predict", tmp_path / name, clip))
        assert "stmn's metadata, so nothing says how to prepare its input" in error


def test_missing_package_is_named(exported, clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    [error] = errors_of(call("predict", exported["openvino"], clip))
    assert error == "OpenVINO's format needs the package 'openvino': pip install 'stmn[openvino]'"


def test_what_a_file_says_is_the_same_in_every_format(exported):
    import openvino

    with zipfile.ZipFile(exported["pt2"]) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("extra/stmn")]
        program = json.loads(archive.read(name))
    graph = json.loads(openvino.Core().read_model(exported["openvino"]).get_rt_info("stmn").value)
    assert program == graph
    assert program["use"]["inputs"]["rgb"]["planes"] == ["red", "green", "blue"]
