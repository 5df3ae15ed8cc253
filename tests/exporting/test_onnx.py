"""An exported file gives the network's logits, or there is no file."""

import json
import sys
from collections.abc import Sequence

import pytest
import torch
from conftest import run_stage
from helpers.damage import refusals
from torch import Tensor

import stmn
from stmn.errors import DataError, MissingExtra, PluginError, StmnError, UsageError
from stmn.exporting.base import TOLERANCES, check_parity, example_inputs
from stmn.exporting.onnx import OnnxExporter, check_file
from stmn.nets.build import build_network
from stmn.nets.checkpoint import Description, TrainedOn
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network
from stmn.prediction.whole_video import read_whole_video
from stmn.runtime.progress import Silent
from stmn.store.format.header import Preparation
from stmn.video.source import parse_source

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def made(**network: object) -> tuple[Network, Description]:
    """A narrow tied network in which every module matters, and its description."""
    streams = [StreamConfig(modality=modality, arch="resnet18", width=0.125) for modality in ("rgb", "flow")]
    values = {"classes": ["wave", "jump", "rén"], "size": 64, "stack_length": 3, "streams": streams}
    config = NetworkConfig(**(values | network))
    net = build_network(config).eval()
    for name, parameter in net.named_parameters():
        if name.endswith("bn2.weight"):  # 0 in fresh units
            torch.nn.init.ones_(parameter)
    preparation = Preparation(short_side=72, flow="tvl1", bound=20.0, quality=95, camera_motion="keep")
    return net, Description(config, preparation, TrainedOn(data="mine", split="1", videos=["a"]), ["mirror", "crop"])


FINAL = {"gate": GateConfig(), "temporal": TemporalConfig(injector="residual", pool="max")}
KINDS = {
    "the paper's final network": FINAL,
    "gates both ways and filters in the skip path": {
        "gate": GateConfig(direction="both", site="direct", fusion="add"),
        "temporal": TemporalConfig(injector="residual_and_skip", init="average", length=5),
    },
    "filters in the skip path alone": {"gate": GateConfig(), "temporal": TemporalConfig(injector="skip", pool="max")},
    "gates and filters at every unit": {
        "gate": GateConfig(units="every_unit"),
        "temporal": TemporalConfig(injector="residual_every_unit", pool="max"),
    },
    "one prediction of both streams, of five chunks at a time": {
        "gate": GateConfig(),
        "prediction": "concatenated",
        "temporal": TemporalConfig(pool="max", window=5),
    },
    "their mean, of three chunks at a time": {
        "gate": GateConfig(units="every_unit"),
        "prediction": "averaged",
        "temporal": TemporalConfig(injector="residual_conv2_conv5", pool="average", window=3),
    },
    "every chunk by itself": {"gate": GateConfig(), "temporal": TemporalConfig(pool="none")},
    "appearance alone": {"streams": [StreamConfig(modality="rgb", arch="resnet18", width=0.125)]},
    "motion alone": {"streams": [StreamConfig(modality="flow", arch="resnet18", width=0.125)]},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_onnx_gives_same_logits_for_any_input_shape(kind, tmp_path):
    net, description = made(**kind)
    exporter, path = OnnxExporter(), tmp_path / "model.onnx"
    exporter.write(net, description, example_inputs(net, description, batch=2, chunks=3), path)
    run = exporter.runner(path)
    assert check_parity(net, description, run) < 1e-4
    for batch, chunks, height, width in ((1, 1, 64, 64), (2, 25, 73, 101), (5, 4, 96, 70)):
        given = [torch.randn(batch, chunks, description.network.in_channels(s.modality), height, width)
                 for s in description.network.streams]  # fmt: skip
        with torch.inference_mode():
            expected = net(*given)
        for ours, theirs in zip(expected, run(given), strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)


def test_onnx_file_describes_inputs_outputs_and_model(tmp_path):
    net, description = made(**FINAL)
    path = tmp_path / "model.onnx"
    OnnxExporter().write(net, description, example_inputs(net, description, 2, 3), path)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    sizes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert sizes["rgb"][2] == 3 and sizes["flow"][2] == 6
    assert all(isinstance(sizes[name][place], str) for name in ("rgb", "flow") for place in (0, 1, 3, 4))  # free
    assert sizes["appearance_scores"][1] == sizes["motion_scores"][1] == 3
    (about,) = (json.loads(p.value) for p in model.metadata_props if p.key == "stmn")
    assert about == json.loads(json.dumps(description.to_json()))
    assert about["network"]["classes"] == ["wave", "jump", "rén"]


def test_float16_file_has_half_the_size_and_float32_at_both_ends(own):
    exact, half = (run_stage(own, "export", model="fused", precision=name) for name in ("float32", "float16"))
    assert half.results["bytes"] < 0.65 * exact.results["bytes"]
    assert exact.results["relative_difference"] < 1e-4 < half.results["relative_difference"] < 1e-2
    model = onnx.load(half.output("export"))
    ends = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert ends == {onnx.TensorProto.FLOAT}
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    feeds = {name: node.op_type for node in model.graph.node for name in node.input}
    kinds = {(feeds[name], kind) for name, kind in weights.items() if feeds[name] in ("Conv", "Gemm", "MatMul")}
    assert ("Conv", onnx.TensorProto.FLOAT16) in kinds and ("Conv", onnx.TensorProto.FLOAT) not in kinds
    assert {kind for name, kind in kinds if name != "Conv"} == {onnx.TensorProto.FLOAT}  # the classifier
    said = {p.key: p.value for p in model.metadata_props}
    assert said["precision"] == "float16"


def test_float16_that_overflows_leaves_no_file(tmp_path):
    net, description = made(**FINAL)
    with torch.no_grad():
        net.stream("motion").backbone.conv1.weight.mul_(1e4)
        net.stream("motion").backbone.bn1.running_var.fill_(1e-2)
    path = tmp_path / "model.onnx"
    OnnxExporter().write(net, description, example_inputs(net, description, 2, 3), path, precision="float16")
    with pytest.raises(StmnError, match="too large for float16"):
        check_parity(net, description, OnnxExporter().runner(path), TOLERANCES["float16"])


def test_exporter_that_knows_no_float16_is_not_asked_for_it(own, monkeypatch):
    monkeypatch.delattr(OnnxExporter, "precisions")
    with pytest.raises(UsageError, match="exporter 'onnx' can't write float16, only float32"):
        run_stage(own, "export", model="fused", precision="float16")


def test_network_with_one_prediction_has_one_output(tmp_path):
    net, description = made(gate=GateConfig(), prediction="averaged")
    path = tmp_path / "model.onnx"
    OnnxExporter().write(net, description, example_inputs(net, description, 2, 3), path)
    assert [value.name for value in onnx.load(path).graph.output] == ["fused_scores"]


def broken_runners(net: Network):
    """Runners of broken files."""

    def honest(given: Sequence[Tensor]) -> list[Tensor]:
        return [scores.clone() for scores in net(*given)]

    def one_score_off(given):
        scores = honest(given)
        scores[1][-1, 0] += 0.01 * scores[1].abs().max()
        return scores

    return {
        "one score off": one_score_off,
        "off for other lengths": lambda given: [s + (given[0].shape[1] == 5) for s in honest(given)],
        "off for wide frames": lambda given: [
            s * (1 + (given[0].shape[4] != given[0].shape[3])) for s in honest(given)
        ],
        "off for other batches": lambda given: [s * (1 + (given[0].shape[0] == 3)) for s in honest(given)],
        "NaN": lambda given: [s * torch.nan for s in honest(given)],
        "one NaN": lambda given: [s.index_fill(1, torch.tensor([0]), torch.nan) for s in honest(given)],
        "infinite": lambda given: [s + torch.inf for s in honest(given)],
        "no answer": lambda given: [][1],
        "streams swapped": lambda given: honest(given)[::-1],
        "a stream lost": lambda given: honest(given)[:1],
        "a class lost": lambda given: [s[:, :-1] for s in honest(given)],
        "a video lost": lambda given: [s[:1] for s in honest(given)],
    }


def test_file_that_differs_fails_the_parity_check():
    net, description = made(**FINAL)
    with torch.inference_mode():
        assert check_parity(net, description, lambda given: list(net(*given))) == 0
        for what, run in broken_runners(net).items():
            try:
                check_parity(net, description, run)
            except StmnError as error:
                assert "parity check failed" in str(error) and "\n" not in str(error)
            else:
                pytest.fail(f"passed the parity check: {what}")


def test_export_writes_checks_and_copies_the_file(own, tmp_path):
    run = run_stage(own, "export", model="fused", copy_to=tmp_path / "ship" / "model.onnx")
    assert run.results["relative_difference"] < 1e-4
    path = run.output("export")
    assert path.read_bytes() == (tmp_path / "ship" / "model.onnx").read_bytes()
    video = next((own.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    model = stmn.load(own.find_input("fused", "model").path)
    given_video = read_whole_video(model, parse_source(video), model.protocol(25), Silent(), 0.0).given
    [view] = model.protocol(25).views(*given_video.size)
    given = [planes[None] for planes in given_video.network_inputs(model.network.names, view)]
    for ours, theirs in zip(model.logits(video), OnnxExporter().runner(path)(given), strict=True):
        torch.testing.assert_close(theirs[0], ours, rtol=1e-3, atol=1e-5)  # on a real video


def test_export_that_fails_its_check_leaves_no_file(own, monkeypatch, tmp_path):
    honest = OnnxExporter.runner
    monkeypatch.setattr(
        OnnxExporter, "runner", lambda self, path: lambda given: [s * 1.01 for s in honest(self, path)(given)]
    )
    with pytest.raises(StmnError, match="no file was written"):
        run_stage(own, "export", model="fused", copy_to=tmp_path / "copy.onnx")
    (run,) = (r for r in own.runs() if r.record["verb"] == "export")
    assert [path.name for path in run.path.iterdir()] == ["run.json"]
    assert run.record["status"] == "failed" and not (tmp_path / "copy.onnx").exists()

    monkeypatch.undo()
    assert run_stage(own, "export", model="fused").output("export").exists()  # the next try writes it


def test_failed_export_says_why(own, scratch, monkeypatch):
    with pytest.raises(DataError, match="no trained model in this workspace"):
        run_stage(scratch, "export")
    with pytest.raises(PluginError, match=r"unknown exporter 'onxx' \(did you mean 'onnx'\?\)"):
        run_stage(own, "export", model="fused", format="onxx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"export to ONNX needs the package 'onnx': pip install 'stmn\[export\]'"):
        run_stage(own, "export", model="fused")


def test_wrong_bit_in_an_exported_file_is_found(tmp_path):
    net, description = made(streams=[StreamConfig(modality="flow", arch="resnet18", width=0.125)])
    path = tmp_path / "model.onnx"
    OnnxExporter().write(net, description, example_inputs(net, description, 2, 3), path)
    found = refusals(path, lambda: check_file(path))
    assert len(found) > 30
    remedy = "is damaged: not what stmn export wrote; use another copy, or export it again"
    assert set(found) == {f"{path}: {remedy}"}
    model = onnx.load(path)
    del model.metadata_props[-1]  # as older versions
    onnx.save(model, path)
    check_file(path)
