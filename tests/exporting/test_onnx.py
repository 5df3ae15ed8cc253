"""An exported file gives the network's logits and says how to use it, or there is no file."""

import json
import sys

import pytest
import torch
from conftest import run_stage
from helpers.commands import call, errors_of
from helpers.damage import refusals
from helpers.exported import made
from helpers.predicting import lines, model_of

from stmn.errors import DataError, MissingExtra, PluginError, StmnError, UsageError
from stmn.exporting.base import example_inputs
from stmn.exporting.onnx import OnnxExporter, check_file
from stmn.exporting.parity import check_parity
from stmn.nets.checkpoint import load_checkpoint
from stmn.nets.config import StreamConfig

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ALONE = {"streams": [StreamConfig(modality="flow", arch="resnet18", width=0.125)]}


def about(path) -> dict:
    """What a file says of itself."""
    return json.loads({p.key: p.value for p in onnx.load(path).metadata_props}["stmn"])


def test_onnx_takes_any_input_shape(shipped, onnx_file):
    net, description = load_checkpoint(model_of(shipped, "fused"))
    run = OnnxExporter().runner(onnx_file)
    assert check_parity(net, description, run) < 1e-5
    for batch, chunks, height, width in ((1, 25, 37, 37), (2, 1, 37, 61), (5, 4, 48, 40)):
        given = [torch.randn(batch, chunks, description.network.in_channels(s.modality), height, width)
                 for s in description.network.streams]  # fmt: skip
        with torch.inference_mode():
            expected = net(*given)
        for ours, theirs in zip(expected, run(given), strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


def test_onnx_names_inputs_outputs_and_free_axes(onnx_file):
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model)
    sizes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert sizes == {
        "rgb": ["batch", "chunks", 3, "height", "width"],
        "flow": ["batch", "chunks", 20, "height", "width"],
        "appearance_scores": ["batch", 4],
        "motion_scores": ["batch", 4],
    }


def test_file_alone_says_how_to_use_it(shipped, onnx_file):
    said, description = about(onnx_file), load_checkpoint(model_of(shipped, "fused"))[1]
    assert said["network"]["classes"] == description.network.classes
    assert said["licence"] == "CC BY 4.0" and said["versions"]["stmn"]
    use = said["use"]
    assert use["inputs"]["rgb"]["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert use["inputs"]["rgb"]["std"] == pytest.approx([58.395, 57.12, 57.375])
    flow = use["inputs"]["flow"]
    assert flow["planes"][:4] == ["u1", "v1", "u2", "v2"] and len(flow["planes"]) == 2 * flow["stack_length"] == 20
    assert flow["bound_pixels"] == 5.0 and flow["levels_per_pixel"] == 25.5 and flow["mean"] == 128
    assert use["frames"]["short_side"] == description.test_short_side
    assert use["chunks"]["count"] == 25 and use["outputs"] == ["appearance_scores", "motion_scores"]
    trained_on = description.trained_on
    assert said["trained_on"]["count"] == len(trained_on.videos) > 0
    assert said["trained_on"]["split_hash"] == trained_on.split_hash
    text = json.dumps(said)
    assert not any(video in text for video in trained_on.videos)  # no names of training videos


def test_predict_with_an_onnx_file_gives_the_models_scores(shipped, onnx_file, tmp_path):
    videos = sorted((shipped.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))[:2]
    copy = tmp_path / "model.onnx"
    copy.write_bytes(onnx_file.read_bytes())  # the file alone
    theirs, ours = (lines(model, *videos, "--window", 0.5) for model in (copy, model_of(shipped, "fused")))
    assert len(theirs) == len(ours) > 2
    for one, other in zip(theirs, ours, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-4)
    assert lines(copy, videos[0], "--stream", "motion")[0]["scores"]


def test_overlay_of_an_exported_file_has_no_gate_map(shipped, onnx_file, tmp_path):
    [video, *_] = sorted((shipped.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    result = call("predict", onnx_file, video, "--overlay", tmp_path / "seen.mp4")
    assert result.exit_code == 0 and (tmp_path / "seen.mp4").stat().st_size > 0
    assert "an exported file, whose inside can't be seen: the overlay has no gate map" in result.stderr


def test_exported_file_shows_nothing_of_its_inside(shipped, onnx_file, tmp_path):
    [video, *_] = sorted((shipped.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    why = "this model is an exported file, which gives logits alone; name the model file that it was made of"
    features = call("features", onnx_file, video, "--out", tmp_path / "f.npz")
    explained = call("predict", onnx_file, video, "--overlay", tmp_path / "o.mp4", "--explain", "left")
    assert (errors_of(features), errors_of(explained)) == ([f"features: {why}"], [f"--explain: {why}"])
    pushed = call("push", onnx_file, "ada/m", "--licence", "mit", "--dry-run", tmp_path / "made")
    assert errors_of(pushed) == [f"{onnx_file}: is an exported file; push the model that it was made of"]
    assert not list(tmp_path.iterdir())


def test_predict_refuses_files_it_can_not_use(shipped, onnx_file, tmp_path, monkeypatch):
    [video, *_] = sorted((shipped.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    model = onnx.load(onnx_file)
    del model.metadata_props[:]
    foreign, broken = tmp_path / "foreign.onnx", tmp_path / "broken.onnx"
    onnx.save(model, foreign)
    broken.write_bytes(b"no model")

    def error(*arguments: object) -> str:
        [line] = errors_of(call("predict", *arguments, video))
        return line

    assert "without stmn's metadata, so nothing says how to prepare its input" in error(foreign)
    assert "is damaged: not what stmn export wrote" in error(broken)
    assert "leave --precision bfloat16 out" in error(onnx_file, "--precision", "bfloat16")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert error(onnx_file) == "running ONNX files needs the package 'onnxruntime': pip install 'stmn[export]'"


def test_float16_file_has_half_the_size_and_float32_at_both_ends(own):
    half = run_stage(own, "export", model="appearance", half=True)
    assert run_stage(own, "export", model="appearance", precision="float16").path == half.path
    weights = model_of(own, "appearance").stat().st_size
    assert half.results["bytes"] < 0.65 * weights
    assert 1e-5 < half.results["relative_difference"] < 1e-2
    model = onnx.load(half.output("export"))
    ends = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert ends == {onnx.TensorProto.FLOAT}
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    feeds = {name: node.op_type for node in model.graph.node for name in node.input}
    kinds = {(feeds[name], kind) for name, kind in weights.items() if feeds.get(name) in ("Conv", "Gemm", "MatMul")}
    assert ("Conv", onnx.TensorProto.FLOAT16) in kinds and ("Conv", onnx.TensorProto.FLOAT) not in kinds
    assert {kind for name, kind in kinds if name != "Conv"} == {onnx.TensorProto.FLOAT}  # the classifier
    assert about(half.output("export"))["use"]["precision"] == "float16"


def test_float16_that_overflows_leaves_no_file(tmp_path):
    net, description = made(**ALONE)
    with torch.no_grad():
        net.stream("motion").backbone.conv1.weight.mul_(1e4)
        net.stream("motion").backbone.bn1.running_var.fill_(1e-2)
    path = tmp_path / "model.onnx"
    OnnxExporter().write(net, description, example_inputs(net, description, 2, 3, 32), path, precision="float16")
    with pytest.raises(StmnError, match="too large for float16"):
        check_parity(net, description, OnnxExporter().runner(path), "float16")


def test_exporter_is_not_asked_for_what_it_can_not_write(own, monkeypatch):
    for opset in (17, 99):
        with pytest.raises(UsageError, match=f"opset = {opset}: exporter 'onnx' writes 18 to 23"):
            run_stage(own, "export", model="fused", opset=opset)
    monkeypatch.delattr(OnnxExporter, "precisions")
    monkeypatch.delattr(OnnxExporter, "opsets")
    with pytest.raises(UsageError, match="exporter 'onnx' can't write float16, only float32"):
        run_stage(own, "export", model="fused", precision="float16")
    with pytest.raises(UsageError, match="opset = 20: files of exporter 'onnx' have no opset: leave it out"):
        run_stage(own, "export", model="fused", opset=20)


@pytest.mark.slow
def test_opset_is_the_one_that_was_asked_for(tmp_path):
    net, description = made(**ALONE)
    path = tmp_path / "model.onnx"
    OnnxExporter().write(net, description, example_inputs(net, description, 2, 3, 32), path, opset=23)
    assert [entry.version for entry in onnx.load(path).opset_import if entry.domain == ""] == [23]
    assert check_parity(net, description, OnnxExporter().runner(path)) < 1e-5


def test_export_is_compared_on_clips_and_copied(shipped, onnx_file, tmp_path):
    run = run_stage(shipped, "export", model="fused", licence="CC BY 4.0", copy_to=tmp_path / "ship" / "model.onnx")
    assert run.output("export") == onnx_file  # up to date
    assert run.results["relative_difference"] < 1e-5
    assert run.results["compared_on"] == ["random input", "2 training videos"]
    assert onnx_file.read_bytes() == (tmp_path / "ship" / "model.onnx").read_bytes()


def test_repeated_export_leaves_its_copies_as_they_are(shipped, onnx_file, tmp_path):
    asked = {"model": "fused", "licence": "CC BY 4.0"}
    copies = {"copy_to": tmp_path / "ship" / "model.onnx", "example": tmp_path / "example"}
    run_stage(shipped, "export", **asked, copy_to=copies["copy_to"])
    run_stage(shipped, "export", **asked, **copies)  # the copy is the same file
    (tmp_path / "example" / "run.py").rename(
        tmp_path / "example" / ".run.py.abcdefgh.part.py"
    )  # as if it had been killed
    run_stage(shipped, "export", **asked, **copies)
    assert not list((tmp_path / "example").glob(".*"))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert len(written) == 6
    run_stage(shipped, "export", **asked, **copies)
    assert written == {path: path.stat().st_mtime_ns for path in written}
    for name, changed in (
        ("copy_to", "ship/model.onnx"),
        ("example", "example/mine.txt"),
        ("example", "example/run.py"),
    ):
        (tmp_path / changed).write_bytes(b"mine, \xff")
        with pytest.raises(UsageError, match="already exists; use --force to overwrite it"):
            run_stage(shipped, "export", **asked, **{name: copies[name]})


def test_export_that_fails_its_check_leaves_no_file(own, monkeypatch, tmp_path):
    def write(self, network, description, example, path):
        path.write_bytes(b"weights")

    net = load_checkpoint(model_of(own, "appearance"))[0].eval()
    monkeypatch.setattr(OnnxExporter, "write", write)
    monkeypatch.setattr(OnnxExporter, "runner", lambda self, path: lambda given: [s * 1.01 for s in net(*given)])
    with pytest.raises(StmnError, match="no file was written"):
        run_stage(own, "export", model="appearance", copy_to=tmp_path / "copy.onnx")
    (run,) = (r for r in own.runs() if r.record["verb"] == "export")
    assert [path.name for path in run.path.iterdir()] == ["run.json"]
    assert run.record["status"] == "failed" and not (tmp_path / "copy.onnx").exists()
    monkeypatch.setattr(OnnxExporter, "runner", lambda self, path: lambda given: list(net(*given)))
    assert run_stage(own, "export", model="appearance").output("export").exists()  # the next try writes it


def test_model_without_its_data_is_compared_on_drawn_pictures(own, scratch, monkeypatch, tmp_path):
    net = load_checkpoint(model_of(own, "motion"))[0].eval()
    monkeypatch.setattr(OnnxExporter, "write", lambda self, network, description, example, path: path.write_bytes(b"w"))
    monkeypatch.setattr(OnnxExporter, "runner", lambda self, path: lambda given: list(net(*given)))
    run = run_stage(type(own)(tmp_path / "elsewhere"), "export", model=str(model_of(own, "motion")))
    assert run.results["compared_on"] == ["random input", "drawn pictures"]


def test_failed_export_says_why(own, scratch, monkeypatch):
    with pytest.raises(DataError, match="no trained model in this workspace"):
        run_stage(scratch, "export")
    with pytest.raises(PluginError, match=r"unknown exporter 'onxx' \(did you mean 'onnx'\?\)"):
        run_stage(own, "export", model="fused", format="onxx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"export to ONNX needs the package 'onnx': pip install 'stmn\[export\]'"):
        run_stage(own, "export", model="fused")


def test_wrong_bit_in_an_exported_file_is_found(onnx_file, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_file.read_bytes())
    found = refusals(path, lambda: check_file(path))
    assert len(found) > 30
    remedy = "is damaged: not what stmn export wrote; use another copy, or export it again"
    assert set(found) == {f"{path}: {remedy}"}
    model = onnx.load(path)
    del model.metadata_props[-1]  # as older versions
    onnx.save(model, path)
    check_file(path)
