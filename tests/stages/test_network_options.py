"""`stmn fuse` builds every network that its options describe, and every later command accepts them."""

import json

import pytest
import torch
from conftest import train_tiny
from helpers.commands import call, errors_of

from stmn.evaluation.scores import load_scores
from stmn.nets.checkpoint import load_checkpoint, read_description
from stmn.workspace import Workspace

TINY = [
    "--chunks", 3, "--batch", 8, "--micro-batch", 8, "--steps", 2, "--stride-min", 1, "--stride-max", 2,
    "--schedule", "cosine", "--validation", 0,
]  # fmt: skip


def fuse(workspace: Workspace, *flags: object):
    return call("fuse", *TINY, *flags, "-w", workspace.root)


def newest(workspace: Workspace):
    return workspace.newest("model")


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["averaged", "concatenated"])
def test_networks_with_one_prediction_go_through_the_chain(own, prediction, tmp_path):
    pytest.importorskip("onnx")
    assert fuse(own, "--prediction", prediction, "--temporal-window", 2).exit_code == 0
    model = newest(own)
    config = read_description(model.output("model")).network
    assert (config.prediction, config.temporal.pool, config.temporal.window) == (prediction, "max", 2)
    rows = [json.loads(line) for line in model.output("metrics").read_text().splitlines()]
    assert rows[-1]["step"] == 2 and rows[-1]["loss"] > 0

    assert call("evaluate", "--model", model.path, "-w", own.root).exit_code == 0
    tested = own.newest("scores")
    assert list(load_scores(tested.output("scores")).streams) == ["fused"]
    assert 0 <= json.loads(tested.output("metrics").read_text())["accuracy"] <= 1
    exported = call("export", "--model", model.path, "-w", own.root)
    assert exported.exit_code == 0 and "outputs differ by up to" in exported.stdout + exported.stderr
    report = call("report", "-w", own.root)
    assert report.exit_code == 0, report.stderr
    video = next((own.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    assert call("predict", model.output("model"), video).exit_code == 0


def test_a_concatenated_prediction_starts_from_late_fusion(own):
    still = ["--lr", 1e-30, "--weight-decay", 0, "--temporal-pool", "none", "--prediction"]
    assert fuse(own, *still, "concatenated").exit_code == 0
    network, _ = load_checkpoint(newest(own).output("model"))
    classes = len(network.config.classes)
    assert torch.allclose(network.joint_fc.weight, torch.eye(classes).repeat(1, 2) / 2)
    assert not network.joint_fc.bias.detach().abs().max() > 1e-20


def test_variant_of_the_authors_code_is_three_options(own):
    """Windows of five chunks, and filters in conv2_x and conv5_x alone of the deeper motion stream."""
    assert fuse(own, "--temporal-window", 5, "--motion-injector", "residual_conv2_conv5").exit_code == 0
    about = read_description(newest(own).output("model"))
    assert about.network.temporal.window == 5
    state = load_checkpoint(newest(own).output("model"))[0].state_dict()
    placed = {name.partition(".temporal")[0] for name in state if "temporal" in name}
    assert placed == {
        *(f"streams.appearance.backbone.layer{n}.1" for n in (1, 2, 3, 4)),
        *(f"streams.motion.backbone.layer{n}.1" for n in (1, 4)),
    }
    assert {p["name"] for p in about.to_json()["plugins"] if p["kind"] == "injector"} == {
        "residual", "residual_conv2_conv5",
    }  # fmt: skip


def test_streams_of_unequal_channels_are_refused_before_loading(own, monkeypatch):
    deeper = train_tiny(own, "flow", arch="resnet50", steps=1)
    monkeypatch.setattr("safetensors.torch.load_file", lambda *_: pytest.fail("weights were read"))
    monkeypatch.setattr("stmn.runtime.tensor_files.load_file", lambda *_: pytest.fail("weights were read"))
    refused = fuse(own, "--motion", deeper.name)
    assert refused.exit_code != 0
    (line,) = errors_of(refused)
    assert "resnet18 and resnet50 can't be tied: their parts have [16, 32, 64, 128] and [64, 128, 256, 512]" in line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--temporal-pool", "none", "--temporal-window", 5), "temporal_window = 5 needs pooling over time"),
        (("--temporal-window", 0), "temporal_window"),
        (("--temporal-length", 4), "temporal_length = 4: the length of a temporal filter must be odd"),
        (("--prediction", "average"), "'average' is not one of 'per_stream', 'averaged', 'concatenated'"),
        (("--motion-injector", "residul"), "unknown injector 'residul' (did you mean 'residual'?)"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_options_that_make_no_network_are_refused(own, flags, words):
    refused = fuse(own, *flags)
    assert refused.exit_code != 0 and words in refused.stderr
