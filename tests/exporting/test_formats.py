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

from stmn.nets import checkpoint
from stmn.nets.checkpoint import load_checkpoint, read_description
from stmn.runtime.json_files import write_record

pytest.importorskip("openvino")

FORMATS = ["pt2", "openvino", "safetensors"]


@pytest.fixture
def clip(shipped) -> Path:
    """A test video."""
    return min((shipped.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))


def copied(path: Path, folder: Path) -> Path:
    """A copy of a file, and of the weights that belong to it."""
    for file in path.parent.glob(f"{path.stem}.*"):
        if not file.name.endswith(".json"):
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


def test_model_file_for_others_names_no_training_videos(shipped, exported, tmp_path):
    alone = copied(exported["safetensors"], tmp_path)
    ours, theirs = read_description(model_of(shipped, "appearance")), read_description(alone)
    assert ours.trained_on.videos and not theirs.trained_on.videos
    assert theirs.trained_on.count == len(ours.trained_on.videos)
    assert theirs.trained_on.split_hash == ours.trained_on.split_hash
    content = alone.read_bytes()
    assert not any(video.encode() in content for video in ours.trained_on.videos)


def test_training_list_beside_a_model_file_belongs_to_it(shipped, exported, tmp_path):
    ours = read_description(model_of(shipped, "appearance")).trained_on
    assert read_description(exported["safetensors"]).trained_on == ours  # where it was exported
    alone = copied(exported["safetensors"], tmp_path)
    result = call("evaluate", alone, "-w", shipped.root, "--json", "--chunks", 1)
    assert "its 24 training videos (synthetic) are listed neither in its file nor beside it" in result.stderr
    write_record(tmp_path / "model.videos.json", {"videos": ["another"]})
    [error] = errors_of(call("nets", "show", alone))
    assert (
        error
        == f"{tmp_path / 'model.videos.json'}: is the training list of another model than model.safetensors: delete it"
    )
    (tmp_path / "model.videos.json").write_text("{")
    [error] = errors_of(call("nets", "show", alone))
    assert "is damaged" in error and "delete it, or use another copy" in error


def test_long_training_list_is_beside_the_model_file(shipped, tmp_path, monkeypatch):
    network, description = load_checkpoint(model_of(shipped, "appearance"))
    monkeypatch.setattr(checkpoint, "MOST_LISTED", 10)
    path = tmp_path / "model.safetensors"
    checkpoint.save_checkpoint(path, network, description)
    assert not any(video.encode() in path.read_bytes() for video in description.trained_on.videos)
    assert load_checkpoint(path)[1] == description


def test_exported_file_has_no_features(onnx_file, clip, tmp_path):
    [error] = errors_of(call("features", onnx_file, clip, "--out", tmp_path / "features.npz"))
    assert error == (
        "features: this model is an exported file, which gives logits alone; name the model file that it was made of"
    )
    assert not list(tmp_path.iterdir())


def test_precisions_that_contradict_each_other_are_refused(shipped):
    [error] = errors_of(call("export", "fused", "--half", "--int8", "-w", shipped.root))
    assert error == "--half and --int8 contradict each other: give one of them"
    [error] = errors_of(call("export", "fused", "--half", "--precision", "int8", "-w", shipped.root))
    assert error == "--half and --precision int8 contradict each other: give one of them"
    [error] = errors_of(call("export", "fused", "--format", "pt2", "--int8", "-w", shipped.root))
    assert error == "exporter 'pt2' can't write int8, only float32"


@pytest.mark.slow
def test_int8_is_calibrated_on_training_videos_and_its_accuracy_printed(own, tmp_path):
    result = call("export", "appearance", "--int8", "-w", own.root)
    assert result.exit_code == 0, result.stderr
    assert "accuracy on 12 test videos: float32 " in result.stderr and ", int8 " in result.stderr
    [run] = [run for run in own.runs() if run.record["verb"] == "export"]
    assert run.results["bytes"] < 0.4 * model_of(own, "appearance").stat().st_size
    assert run.results["accuracy"].keys() == {"float32", "int8"} and run.results["accuracy_videos"] == 12
    [error] = errors_of(call("export", model_of(own, "appearance"), "--int8", "-w", tmp_path / "elsewhere"))
    assert "takes the ranges of features from training videos, and the set of this model, 'synthetic'" in error


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
