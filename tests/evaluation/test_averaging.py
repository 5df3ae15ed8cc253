"""What is averaged: logits or probabilities, and with which weights; what a scores file then holds, and what is said."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, run_stage, train_tiny
from helpers.commands import call, errors_of
from helpers.films import moving
from helpers.made_sets import MadeVideo, make_set
from helpers.networks import randomize_norms
from torch import Tensor

from stmn.errors import DataError, UsageError
from stmn.evaluation.inference import compute_logits, set_pooling
from stmn.evaluation.metrics import measure
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.scores import Scores, fuse_late, load_scores
from stmn.evaluation.video_input import VideoInput
from stmn.evaluation.weights import choose_weights
from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.runtime.device import choose_device
from stmn.sampling.augment import normalise_flow, normalise_rgb
from stmn.store.format.header import read_header
from stmn.workspace import Workspace

CPU = choose_device("cpu")


def scores(*streams: Tensor, **protocol: object) -> Scores:
    """Scores of as many videos as there are rows, all of the first class."""
    names = [f"v{number}" for number in range(len(streams[0]))]
    tensors = {f"stream{number}": tensor for number, tensor in enumerate(streams, 1)}
    return Scores(names, list("abc"), [0] * len(names), tensors, protocol)


def drawn(seed: int) -> Tensor:
    return 3 * torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))


# Probabilities


@pytest.mark.parametrize("pool", ["window", "global"])
@pytest.mark.parametrize("temporal", ["none", "max"])
def test_soft_maxes_are_averaged_over_windows_chunks_and_mirrors(pool, temporal):
    streams = [StreamConfig(modality=modality, arch="resnet18", width=0.125) for modality in ("rgb", "flow")]
    config = NetworkConfig(
        classes=list("abc"), size=32, stack_length=2, streams=streams, gate=GateConfig(),
        temporal=TemporalConfig(injector="none", pool=temporal),
    )  # fmt: skip
    network = randomize_norms(build_network(config))
    for name in network.names:
        network.stream(name).fc.weight.data *= 100  # else all probabilities are alike
    generator = torch.Generator().manual_seed(1)
    frames, fields = (255 * torch.rand(n, c, 64, 96, generator=generator) for n, c in ((4, 3), (8, 2)))
    stacks = torch.arange(8).unflatten(0, (4, 2))
    how = Protocol(short_side=64, crop=32, average="softmax", pool=pool)
    set_pooling(network, how)
    found = compute_logits(network, [VideoInput(frames, fields, stacks)], how, CPU)

    probabilities: list[list[Tensor]] = [[], []]
    for mirror in (False, True):
        rgb, flow = frames.clone(), fields.clone()
        if mirror:
            rgb, flow = rgb.flip(-1), flow.flip(-1)
            flow[:, 0] = 256 - flow[:, 0]
        with torch.inference_mode():
            maps = network.feature_maps(normalise_rgb(rgb)[None], normalise_flow(flow)[stacks].flatten(1, 2)[None])
            for output, name, features in zip(probabilities, network.names, maps, strict=True):
                places = features if temporal == "none" else features.amax(dim=0, keepdim=True)  # (P, C, 2, 3)
                for place in places:
                    windows = place.flatten(1).T if pool == "window" else place.mean(dim=(1, 2))[None]
                    output += [network.stream(name).fc(window).softmax(dim=0) for window in windows]
    for logits, parts in zip(found, probabilities, strict=True):
        assert len(parts) == 2 * (4 if temporal == "none" else 1) * (6 if pool == "window" else 1)
        torch.testing.assert_close(logits[0].exp(), torch.stack(parts).mean(dim=0), rtol=1e-4, atol=1e-6)


def test_mean_of_streams_is_that_of_their_probabilities():
    one, two = drawn(1), drawn(2)
    found = scores(one, two, average="softmax").mean()
    torch.testing.assert_close(found.exp(), (one.softmax(1) + two.softmax(1)) / 2)
    weighted = scores(one, two, average="softmax", stream_weights={"stream1": 1.0, "stream2": 3.0}).mean()
    torch.testing.assert_close(weighted.exp(), (one.softmax(1) + 3 * two.softmax(1)) / 4)
    sure = torch.tensor([[0.0, -300.0, -400.0]])
    assert scores(sure, sure, average="softmax").mean().isfinite().all()  # no probability becomes 0


def test_late_fusion_averages_scores_or_soft_maxes():
    parts, names = [scores(drawn(1), drawn(2)), scores(drawn(3))], ["first", "second"]
    soft = fuse_late(parts, [1, 3], names, "softmax")
    first, second = (part.mean().softmax(1) for part in parts)
    torch.testing.assert_close(soft.mean().exp(), (first + 3 * second) / 4)
    assert soft.protocol["average"] == "softmax"
    plain = fuse_late(parts, [1, 3], names)
    torch.testing.assert_close(plain.mean(), (parts[0].mean() + 3 * parts[1].mean()) / 4)
    again = fuse_late([soft, soft], None, names, "softmax")  # a fusion of fusions
    torch.testing.assert_close(again.mean(), soft.mean())
    with pytest.raises(DataError, match="negative weights 3, -1"):
        fuse_late(parts, [3, -1], names, "softmax")


def test_three_scores_of_one_stream_are_all_fused():
    parts = [scores(drawn(seed)) for seed in range(3)]
    fused = fuse_late(parts, None, ["same.safetensors"] * 3)
    assert len(fused.streams) == 3
    torch.testing.assert_close(fused.mean(), sum(part.mean() for part in parts) / 3)


def test_confidence_of_averaged_soft_maxes_is_their_mean(tmp_path):
    """The calibration error is that of the averaged probabilities: 0.9 and 0.5 are 0.7, whatever their logits are."""
    streams = [torch.tensor([[p, 1 - p, 1e-9]]).log().repeat(4, 1) for p in (0.9, 0.5)]
    scores(*streams, average="softmax").save(tmp_path / "soft.safetensors")
    metrics = measure(load_scores(tmp_path / "soft.safetensors"))
    assert metrics["accuracy"] == 1 and metrics["calibration_error"] == pytest.approx(0.3, abs=1e-4)


@pytest.mark.parametrize(
    ("weights", "words"),
    [({"other": 1.0}, "not one number for each of stream1"), ({"stream1": 0.0}, "sum .* is not positive"), ([1.0], "not one number")],
)  # fmt: skip
def test_file_with_wrong_weights_is_refused(weights, words, tmp_path):
    scores(drawn(1), stream_weights=weights).save(tmp_path / "wrong.safetensors")
    with pytest.raises(DataError, match=words):
        load_scores(tmp_path / "wrong.safetensors")


def test_older_files_hold_logits(tmp_path):
    scores(drawn(1), scores="before_softmax").save(tmp_path / "old.safetensors")
    assert load_scores(tmp_path / "old.safetensors").protocol == {"average": "logits"}


def test_evaluation_of_soft_maxes_says_so_and_serves_wherever_scores_do(own):
    soft = run_stage(own, "evaluate", model="fused", chunks=2, average="softmax", temporal_pool="none")
    hard = run_stage(own, "evaluate", model="fused", chunks=2, temporal_pool="none")
    found, plain = (load_scores(run.output("scores")) for run in (soft, hard))
    assert "probabilities averaged" in found.protocol["words"] and "softmax" not in plain.protocol["words"]
    torch.testing.assert_close(found.mean().exp().sum(dim=1), torch.ones(12))
    assert not torch.allclose(found.mean().softmax(1), plain.mean().softmax(1), atol=1e-6)
    late = run_stage(own, "evaluate", late_fusion=[soft.name, soft.name], average="softmax")
    torch.testing.assert_close(load_scores(late.output("scores")).mean(), found.mean())
    assert "late fusion of probabilities" in late.results["protocol"]["words"]

    fused = load_scores(run_stage(own, "fuse-idt", scores=soft.name, features="grid").output("scores"))
    assert fused.protocol["split"] == "1" and not fused.protocol.get("stream_weights_chosen_on")
    mean = found.mean().exp()
    torch.testing.assert_close(fused.streams["network"], mean / mean.square().sum(dim=1, keepdim=True).sqrt())
    both = call("compare", hard.name, soft.name, "-w", own.root).stdout
    assert "average softmax instead of logits" in both


# Weights of streams


def test_streams_have_the_weights_that_are_asked_for(own):
    equal = load_scores(run_stage(own, "evaluate", model="fused", chunks=2).output("scores"))
    result = call("evaluate", "fused", "--chunks", "2", "--stream-weights", "1", "3", "-w", own.root)
    assert result.exit_code == 0, result.stderr
    run = next(run for run in own.runs() if run.record["verb"] == "evaluate")
    weighted = load_scores(run.output("scores"))
    appearance, motion = equal.streams.values()
    torch.testing.assert_close(weighted.mean(), (appearance + 3 * motion) / 4)
    assert weighted.protocol["stream_weights"] == {"appearance": 1, "motion": 3}
    assert weighted.protocol["words"].endswith(", streams 1:3") and "stream_weights" not in equal.protocol
    with pytest.raises(UsageError, match="option 'weights' is called 'stream_weights' now"):
        run_stage(own, "evaluate", late_fusion=["appearance", "motion"], weights=[1, 3])


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory, prepared: Workspace) -> Workspace:
    """Two streams and a fused network that held the same videos out."""
    workspace = Workspace(tmp_path_factory.mktemp("validated"))
    (workspace.root / "data").symlink_to(prepared.root / "data")
    share = {"validation": 0.3, "steps": 1}
    for modality in ("rgb", "flow"):
        train_tiny(workspace, modality, **share)
    run_stage(workspace, "fuse", chunks=2, stride_min=1, stride_max=2, **(TINY_TRAINING | share))
    return workspace


@pytest.mark.parametrize("average", ["logits", "softmax"])
def test_weights_chosen_in_validation_are_those_of_the_held_out_videos(average, validated):
    how = {"chunks": 1, "average": average}
    held = load_scores(run_stage(validated, "evaluate", model="fused", part="validation", **how).output("scores"))
    tested = load_scores(run_stage(validated, "evaluate", model="fused", **how).output("scores"))
    run = run_stage(validated, "evaluate", model="fused", stream_weights="validation", **how)
    chosen = load_scores(run.output("scores"))
    streams = [
        Scores(held.ids, held.classes, held.labels, {n: t}, {"part": "validation"}) for n, t in held.streams.items()
    ]
    weights = choose_weights(streams, list(held.streams), average)
    assert list(chosen.protocol["stream_weights"].values()) == weights
    assert chosen.protocol["stream_weights_chosen_on"] == f"{len(held.ids)} validation videos"
    assert chosen.ids == tested.ids and not set(held.ids) & set(tested.ids)
    for name, tensor in chosen.streams.items():
        assert torch.equal(tensor, tested.streams[name])
    torch.testing.assert_close(chosen.mean(), tested.mean(weights))


def test_late_fusion_chooses_on_what_both_models_held_out(validated):
    result = call(
        "evaluate", "--late-fusion", "appearance", "motion", "--chunks", 1, "--stream-weights", "validation",
        "-w", validated.root,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    run = next(run for run in validated.runs() if run.record["verb"] == "evaluate")
    protocol = run.results["protocol"]
    assert protocol["part"] == "test" and "validation videos" in protocol["stream_weights_chosen_on"]
    assert list(protocol["stream_weights"].values()) == protocol["late_fusion_weights"]
    assert "chosen on" in result.stderr and "chosen on" in protocol["words"]


def test_weights_that_cannot_be_are_refused_before_anything_is_tested(own):
    before = len(list(own.runs_dir.glob("*")))
    evaluation = next(run.name for run in own.runs() if run.record["verb"] == "evaluate")
    for options, words in (
        ({"model": "appearance", "stream_weights": [1, 3]}, "makes one prediction: stream_weights need a network"),
        ({"model": "fused", "stream_weights": [1, 2, 3]}, "has 2 streams, and stream_weights has 3 weights"),
        ({"model": "fused", "part": "validation", "stream_weights": "validation"}, "test on the test part"),
        ({"late_fusion": ["motion", evaluation], "stream_weights": "validation"}, "to choose weights in validation"),
        ({"late_fusion": ["motion"]}, "at least two"),
    ):
        with pytest.raises(UsageError, match=words):
            run_stage(own, "evaluate", **options)
    assert len(list(own.runs_dir.glob("*"))) == before
    with pytest.raises(DataError, match="training held no videos out"):
        run_stage(own, "evaluate", model="fused", stream_weights="validation", chunks=1)


def test_scores_fuse_averages_soft_maxes(own, tmp_path):
    runs = [run.name for run in own.runs() if run.record["verb"] == "evaluate"][-2:]
    result = call("scores", "fuse", *runs, "-o", tmp_path / "soft.safetensors", "--average", "softmax", "-w", own.root)
    assert result.exit_code == 0, result.stderr
    parts = [load_scores(own.find_input(name, "scores").path).mean().softmax(1) for name in runs]
    torch.testing.assert_close(load_scores(tmp_path / "soft.safetensors").mean().exp(), sum(parts) / 2)
    assert errors_of(call("scores", "fuse", *runs, "-o", tmp_path / "x", "--average", "median", "-w", own.root))


# What is said


def test_short_videos_and_missing_classes_are_said(own, tmp_path: Path):
    """A video of 12 frames has two chunks of 10 fields, one of 8 frames has one; only one class is tested."""
    classes = read_header(own.data_dir("synthetic")).classes
    keeps, how = read_header(own.data_dir("synthetic")).keeps, read_header(own.data_dir("synthetic")).preparation
    films = [
        MadeVideo(
            f"v{number}",
            classes[number % 2 if number < 2 else 0],
            torch.from_numpy(np.stack(moving(frames, 40, 40, seed=number))),
            torch.full((frames - 1, 2, 40, 40), 140, dtype=torch.uint8),
            "train" if number < 2 else "test",
        )
        for number, frames in enumerate([12, 12, 12, 8, 40])
    ]
    folder = make_set(own.data_dir("short"), films, keeps=keeps)
    read_header(folder).model_copy(update={"classes": classes, "preparation": how}).write(folder)
    result = call("evaluate", "fused", "--data", "short", "-w", own.root)
    assert result.exit_code == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if "Warning" not in line]
    assert any(
        "2 of 3 videos are too short for 25 different chunks" in line and "the shortest on 1" in line for line in said
    )
    assert any(f"All videos are of one class, {classes[0]}: " in line for line in said)
    run = next(run for run in own.runs() if run.record["verb"] == "evaluate")
    shown = json.loads(call("scores", "show", run.name, "-w", own.root, "--json").stdout)
    assert shown["protocol"]["fewer_chunks"] == 2 and shown["videos"] == 3
    few = call("evaluate", "fused", "--data", "short", "--chunks", 1, "-w", own.root)
    assert "too short" not in few.stderr
