"""Confidence: temperatures, fitted on videos that a model has not learned from, and videos of no known class."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.commands import call, errors_of
from helpers.films import film, moving

import stmn
from stmn.evaluation.metrics import measure
from stmn.evaluation.scores import Scores, load_scores
from stmn.evaluation.temperature import confidence_of, cross_fit, find_threshold, fit_temperature
from stmn.nets.calibration import Calibration
from stmn.nets.checkpoint import load_checkpoint, read_description, save_checkpoint
from stmn.workspace import Workspace

PROTOCOL = {"average": "logits"}


def draw(count: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too large, and labels drawn from the honest softmax."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(count, 5)) * 2
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=share) for share in shares])
    return honest * temperature, labels


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_true_temperature_is_found(true):
    logits, labels = draw(4000, true)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.08)


@pytest.mark.parametrize(("videos", "confidence"), [(8, 9 / 10), (98, 99 / 100)])
def test_a_few_videos_that_are_all_correct_make_no_model_certain(videos, confidence):
    """However large or small the logits: the confidence is that of Laplace's rule of succession."""
    logits = np.full((videos, 5), -1.0)
    labels = np.arange(videos) % 5
    logits[np.arange(videos), labels] = 2.0
    for scale in (0.5, 4.0):
        assert confidence_of(scale * logits, fit_temperature(scale * logits, labels)) == pytest.approx(
            confidence, abs=1e-3
        )


def test_own_group_is_not_seen():
    logits, labels = draw(60, 2.0)
    groups = [f"g{i % 3}" for i in range(60)]
    found = cross_fit(logits, labels, groups)
    others = np.array([group != "g1" for group in groups])
    assert found[1] == fit_temperature(logits[others], labels[others])
    assert cross_fit(logits, labels, ["g"] * 60) is None


def test_errors_before_and_after_are_measured():
    logits, labels = draw(2000, 4.0)
    scores = Scores(
        [str(i) for i in range(2000)], list("abcde"), labels.tolist(), {"motion": torch.tensor(logits)}, PROTOCOL
    )
    found = measure(scores)
    assert found["calibration_error"] > 0.15 > 0.05 > found["calibration_error_after"]
    assert found["temperature"] == pytest.approx(4, rel=0.1)
    own = measure(Scores(scores.ids, scores.classes, scores.labels, scores.streams, PROTOCOL | {"temperature": 1.0}))
    assert own["calibration_error_after"] == own["calibration_error"] and own["accuracy"] == found["accuracy"]


def test_threshold_keeps_most_correct_predictions():
    logits, labels = draw(2000, 1.0)
    confidence, correct = confidence_of(logits, 1.0), (logits.argmax(1) == labels).astype(float)
    threshold = find_threshold(confidence, correct, 0.9)
    assert (confidence[correct > 0] >= threshold).mean() == pytest.approx(0.9, abs=0.002)
    assert find_threshold(confidence, np.zeros(2000), 0.9) == 0.0


def test_calibrated_model_is_less_sure(own, tmp_path):
    done = call("calibrate", "fused", "--scores", newest_test(own, "fused"), "-w", own.root)
    assert done.exit_code == 0, done.stderr
    assert "calibration error" in done.stderr and "before" in done.stderr
    [run] = [run for run in own.runs() if run.record["verb"] == "calibrate"]
    kept = read_description(run.output("model")).calibration
    assert kept.temperature == run.results["temperature"] and kept.videos == 12
    clip = film(tmp_path / "a.mp4", moving(20, height=40, width=40))
    outputs = stmn.load(run.path, "cpu").logits(clip)
    logits = torch.stack(outputs).mean(0)
    best = stmn.load(run.path, "cpu").predict(clip)[0]
    assert best.score == pytest.approx(float((logits / kept.temperature).softmax(0).max()), abs=1e-4)

    model = run.output("model")
    surely = min(best.score + 0.001, 0.999)
    told = call("predict", model, clip, "--unknown", surely, "--out", tmp_path / "t.csv")
    assert f"{clip}: unknown ({best.class_name} " in told.stdout
    [row] = csv.DictReader((tmp_path / "t.csv").open())
    assert (row["class"], row["score"], row["class_2"]) == ("unknown", "", best.class_name)
    known = json.loads(call("predict", model, clip, "--unknown", best.score / 2, "--json").stdout)
    assert known["unknown"] is False
    [alone] = errors_of(call("predict", model, clip, "--unknown", "auto", "--stream", "motion"))
    assert "the calibration is of the mean over streams, not of motion alone: leave --stream out" in alone
    assert list(kept.output_energies) == ["appearance", "motion"]
    auto = call("predict", model, clip, "--unknown", "auto").stdout
    seen = [
        low <= float(output.logsumexp(0)) <= high
        for output, (low, high) in zip(outputs, kept.output_energies.values(), strict=True)
    ]
    assert ("unknown (" in auto) == (not all(seen) or best.score < kept.unknown_below)
    assert call("predict", model, clip, "--window", 0.4, "--unknown", surely).stdout.count("unknown (") >= 1
    again = call("evaluate", model, "--data", own.root / "data/synthetic", "-w", own.root)
    assert "the model's" in again.stderr
    scores = load_scores(own.newest("scores").output("scores"))
    torch.testing.assert_close(scores.probabilities(), (scores.mean().double() / kept.temperature).softmax(dim=1))
    soft = call("evaluate", model, "--data", own.root / "data/synthetic", "-w", own.root, "--average", "softmax")
    assert soft.exit_code == 0 and "temperature" not in load_scores(own.newest("scores").output("scores")).protocol


def test_the_only_stream_has_the_temperature_of_its_model(own, tmp_path):
    """Whether it is named or not."""
    assert call("calibrate", "motion", "--scores", newest_test(own, "motion"), "-w", own.root).exit_code == 0
    [run] = [run for run in own.runs() if run.record["verb"] == "calibrate"]
    clip = film(tmp_path / "a.mp4", moving(20, height=40, width=40))
    plain, named = (call("predict", run.path, clip, *more).stdout for more in ((), ("--stream", "motion")))
    assert plain == named
    assert call("predict", run.path, clip, "--stream", "motion", "--unknown", "auto").exit_code == 0


@pytest.mark.parametrize("strange", [None, "appearance", "motion"])
def test_a_video_that_one_stream_finds_strange_is_unknown(strange, trained, tmp_path):
    """However sure the mean of the streams is."""
    network, description = load_checkpoint(trained.find_model("fused"))
    energies = {name: (-1e6, -1e5 if name == strange else 1e6) for name in ("appearance", "motion")}
    found = Calibration(temperature=1, unknown_below=0, kept=1, videos=9, error_before=0, output_energies=energies)
    save_checkpoint(tmp_path / "m.safetensors", network, replace(description, calibration=found))
    clip = film(tmp_path / "a.mp4", moving(20, height=40, width=40))
    for more in ([], ["--window", 0.4]):
        told = call("predict", tmp_path / "m.safetensors", clip, "--unknown", "auto", *more).stdout
        assert ("unknown (" in told) == (strange is not None)


def evaluated(workspace: Workspace, *given: object) -> str:
    """The run of an evaluation."""
    assert call("evaluate", *given, "--data", workspace.root / "data/synthetic", "-w", workspace.root).exit_code == 0
    return workspace.newest("scores").name


def newest_test(workspace: Workspace, label: str) -> str:
    """The evaluation of a model of the fixture."""
    tests = [run for run in workspace.runs() if run.record["verb"] == "evaluate"]
    return next(run.name for run in tests if label in str(run.results["of"]))


def test_what_can_not_be_calibrated_is_said(trained, own):
    for scores in (newest_test(own, "motion"), evaluated(own, "fused", "--stream-weights", "1,3")):
        [other] = errors_of(call("calibrate", "fused", "--scores", scores, "-w", own.root))
        assert "averages its outputs (appearance, motion) equally, and the scores are of others or weight them" in other
    [nothing] = errors_of(call("calibrate", "fused", "-w", own.root))
    assert "training held no videos out" in nothing
    [auto] = errors_of(call("predict", trained.find_model("fused"), "x.mp4", "--unknown", "auto"))
    assert auto == "--unknown auto: the model is not calibrated: stmn calibrate MODEL, or give a number"
    [wrong] = errors_of(call("predict", trained.find_model("fused"), "x.mp4", "--unknown", 3))
    assert wrong == "--unknown 3: give auto, or a number above 0 and below 1, such as 0.5"
