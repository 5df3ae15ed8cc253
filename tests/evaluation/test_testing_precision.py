"""Testing computes in float32 on every device unless `--precision` says otherwise, and says so where it does."""

import pytest
import torch
from conftest import run_stage
from helpers.commands import call, errors_of
from helpers.gpus import pretend_gpus
from helpers.predicting import lines, model_of
from helpers.trainings import network

import stmn
from stmn.errors import UsageError
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.scores import Scores, load_scores
from stmn.nets.build import build_network
from stmn.nets.checkpoint import load_checkpoint, save_checkpoint
from stmn.nets.config import GateConfig
from stmn.options.evaluate import EvaluateOptions
from stmn.options.export import ExportOptions
from stmn.runtime import device as devices
from stmn.workspace import Workspace


def scores_of(workspace: Workspace, **options: object) -> Scores:
    return load_scores(run_stage(workspace, "evaluate", model="fused", **options).output("scores"))


def movement(one: Scores, other: Scores) -> float:
    """The largest difference between two files' scores, relative to the largest score."""
    ours, theirs = (torch.cat(list(scores.streams.values())) for scores in (one, other))
    return float((ours - theirs).abs().max() / ours.abs().max())


def first_video(workspace: Workspace) -> str:
    return str(next((workspace.data_dir("synthetic") / "videos" / "test").glob("*.mp4")))


@pytest.fixture
def half_precision_machine(monkeypatch):
    """A machine whose device does bfloat16 best, as a GPU does: there `auto` means bfloat16."""
    real = devices.choose_device

    def choose(name: str = "auto", precision: str = "auto", *more: object) -> devices.Device:
        return real("cpu", "bfloat16" if precision == "auto" else precision, *more)

    monkeypatch.setattr("stmn.runtime.device.choose_device", choose)
    monkeypatch.setattr("stmn.prediction.api.choose_device", choose)


def test_testing_is_float32_where_training_is_not(own, half_precision_machine):
    """The scores and predictions of a GPU are those of a CPU."""
    before = load_scores(own.find_input("test", "scores").path)  # of the fused network, tested last
    after = scores_of(own, chunks=26)  # all of these videos have fewer, so it is the same test again
    assert movement(before, after) == 0
    assert after.protocol["precision"] == "float32"
    video, path = first_video(own), model_of(own, "fused")
    half, exact = stmn.load(path, precision="bfloat16"), stmn.load(path)
    assert exact.device.precision == torch.float32
    assert not torch.equal(half.logits(video)[0], exact.logits(video)[0])


def test_half_precision_is_another_run_and_its_protocol_says_so(own):
    exact = scores_of(own, chunks=1)
    for precision in ("bfloat16", "float16"):
        half = scores_of(own, chunks=1, precision=precision)
        assert half.protocol["precision"] == precision
        assert f", in {precision}, synthetic split 1 test" in half.protocol["words"]
        assert 0 < movement(exact, half) < 0.02
    assert exact.protocol["precision"] == "float32" and "float32" not in exact.protocol["words"]


def test_commands_refuse_other_precisions(own):
    for verb, other in (("evaluate", "int8"), ("export", "bfloat16")):
        refused = call(verb, "fused", "--precision", other, "-w", own.root)
        assert refused.exit_code == 2 and f"'{other}'" in errors_of(refused)[0]
    refused = call("predict", "fused", first_video(own), "--precision", "auto", "-w", own.root)
    assert refused.exit_code == 2 and "'auto'" in errors_of(refused)[0]
    with pytest.raises(UsageError, match="precision 'int8': unknown; use float32, bfloat16, float16"):
        stmn.load(model_of(own, "fused"), precision="int8")


def test_predict_in_half_precision(own):
    given = ("fused", first_video(own), "-w", own.root, "--top", 4)
    exact, half = (lines(*given, *more)[0]["scores"] for more in ([], ["--precision", "bfloat16"]))
    assert exact != half
    assert all(half[name] == pytest.approx(exact[name], abs=0.02) for name in exact)


def test_scores_files_of_earlier_versions_have_no_precision(own, tmp_path):
    scores = scores_of(own)
    del scores.protocol["precision"]
    scores.save(tmp_path / "old.safetensors")
    assert "precision" not in load_scores(tmp_path / "old.safetensors").protocol
    shown = call("scores", "show", tmp_path / "old.safetensors")
    assert shown.exit_code == 0, shown.stderr


@pytest.mark.parametrize("prediction", ["per_stream", "averaged", "concatenated"])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_classifier_and_averages_are_float32(precision, prediction):
    config = network(fused=True).config.model_copy(update={"prediction": prediction, "gate": GateConfig()})
    net = build_network(config).eval()
    maps = [torch.randn(6, net.stream(name).fc.in_features, 3, 4).to(precision) for name in net.names]
    with torch.no_grad():
        expected = net.classify([m.float() for m in maps], 3)
        with torch.autocast("cpu", precision):
            found = net.classify(maps, 3)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_float32_is_not_tf32_and_the_program_keeps_its_own_choice(own):
    """A program that loads a model may have allowed TF32 for its own work."""
    model, seen = stmn.load(model_of(own, "fused")), []

    def look(*_: object) -> None:
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))

    model.fast_network.stream("motion").backbone.conv1.register_forward_hook(look)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.allow_tf32 = True
        model.predict(first_video(own))
        assert set(seen) == {("highest", False)}
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("medium", True)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_words_of_a_protocol_name_half_precision_alone():
    words = {name: str(Protocol(short_side=256, crop=224, precision=name)) for name in ("float32", "bfloat16")}
    assert "float32" not in words["float32"] and ", in bfloat16," in words["bfloat16"]


def test_float16_that_overflows_is_said_to(own, tmp_path):
    """Features above 65504 are finite in float32 and in bfloat16."""
    net, description = load_checkpoint(model_of(own, "motion"))
    with torch.no_grad():
        net.stream("motion").backbone.bn1.weight.mul_(1e6)
    path = tmp_path / "large.safetensors"
    save_checkpoint(path, net, description)
    for precision, fits in (("float32", True), ("bfloat16", True), ("float16", False)):
        for command in (("evaluate", path), ("predict", path, first_video(own))):
            done = call(*command, "--precision", precision, "-w", own.root)
            assert (done.exit_code == 0) == fits, done.stderr
            if not fits:
                assert "in float16, whose largest number is 65504: use bfloat16 or float32" in errors_of(done)[0]


def test_on_a_gpu_auto_is_bfloat16_and_testing_is_not(monkeypatch):
    """No GPU is needed to choose one: what CUDA would answer is made up."""
    pretend_gpus(monkeypatch, (9, 0))
    for has_bfloat16, best in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has_bfloat16: has)
        assert devices.choose_device("auto").precision == best
        for precision in ("float32", "bfloat16", "float16"):
            chosen = devices.choose_device("cuda", precision)
            assert chosen.is_cuda and chosen.precision_name == precision
    assert EvaluateOptions().precision == ExportOptions().precision == "float32"
