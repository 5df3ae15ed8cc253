"""Protocols: whole frames or crops, pooling, parts of a split, all splits, several processes."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import run_stage, train_tiny
from helpers.commands import call, errors_of
from helpers.networks import randomize_norms
from torch import Tensor

from stmn.errors import DataError, UsageError
from stmn.evaluation.inference import compute_logits, set_pooling
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.scores import load_scores
from stmn.evaluation.video_input import VideoInput
from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network
from stmn.runtime.device import choose_device
from stmn.runtime.json_files import read_record, write_record
from stmn.sampling.augment import normalise_flow, normalise_rgb
from stmn.sampling.validation import hold_out
from stmn.store.format.read import Store
from stmn.workspace import Run, Workspace

CPU = choose_device("cpu")


def tied(**temporal: object) -> Network:
    streams = [StreamConfig(modality=modality, arch="resnet18", width=0.125) for modality in ("rgb", "flow")]
    config = NetworkConfig(
        classes=["a", "b", "c"], size=32, stack_length=2, streams=streams, gate=GateConfig(),
        temporal=TemporalConfig(injector="residual", **temporal),
    )  # fmt: skip
    return randomize_norms(build_network(config))


def video(chunks: int = 7, height: int = 40, width: int = 56) -> VideoInput:
    """Levels of a video: a frame and two fields per chunk."""
    generator = torch.Generator().manual_seed(1)
    frames = 255 * torch.rand(chunks, 3, height, width, generator=generator)
    fields = 255 * torch.rand(2 * chunks, 2, height, width, generator=generator)
    return VideoInput(frames, fields, torch.arange(2 * chunks).unflatten(0, (chunks, 2)))


def protocol(**values: object) -> Protocol:
    return Protocol(**({"short_side": 40, "crop": 32} | values))


def plainly(network: Network, pictures: VideoInput, boxes: list[tuple[slice, slice]], mirror: bool) -> list[Tensor]:
    """The mean of the logits over boxes that are cut and mirrored by hand."""
    sums = [torch.zeros(3), torch.zeros(3)]
    for rows, columns in boxes:
        frames, fields = (p[..., rows, columns] for p in (pictures.frames, pictures.fields))
        if mirror:
            frames, fields = frames.flip(-1), fields.flip(-1).clone()
            fields[:, 0] = 256 - fields[:, 0]
        with torch.inference_mode():
            scores = network(normalise_rgb(frames)[None], normalise_flow(fields)[pictures.stacks].flatten(1, 2)[None])
        sums = [total + one[0] / len(boxes) for total, one in zip(sums, scores, strict=True)]
    return sums


TOP, BOTTOM, LEFT, RIGHT = slice(0, 32), slice(8, 40), slice(0, 32), slice(24, 56)
CENTRE = (slice(4, 36), slice(12, 44))


@pytest.mark.parametrize(("spatial", "boxes"), [
    ("ten_crop", [(TOP, LEFT), (TOP, RIGHT), (BOTTOM, LEFT), (BOTTOM, RIGHT), CENTRE]), ("centre_crop", [CENTRE]),
    ("fully_conv", [(slice(0, 40), slice(0, 56))]),
])  # fmt: skip
@pytest.mark.parametrize("flips", [False, True])
def test_logits_are_averaged_over_boxes_and_mirrors(spatial, boxes, flips):
    network, pictures = tied(), video()
    got = compute_logits(network, [pictures], protocol(spatial=spatial, flips=flips), CPU)
    sides = [plainly(network, pictures, boxes, mirror) for mirror in ([False, True] if flips else [False])]
    for output, each in zip(got, zip(*sides, strict=True), strict=True):
        torch.testing.assert_close(output[0], torch.stack(each).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_ten_crops_differ_from_whole_frames():
    whole, crops = (
        compute_logits(tied(), [video()], protocol(spatial=spatial), CPU)[0] for spatial in ("fully_conv", "ten_crop")
    )
    assert not torch.allclose(whole, crops, rtol=1e-2)


def test_global_pool_and_window_pool():
    """Globally all positions weigh the same; in windows of the training map's size the middle weighs more."""
    network = tied()
    stream = network.stream("motion")
    features = torch.rand(1, stream.fc.in_features, 3, 4)
    stream.window = 2
    windows = torch.stack([features[..., y : y + 2, x : x + 2].mean(dim=(2, 3)) for y in range(2) for x in range(3)])
    torch.testing.assert_close(stream.logits(features, 1)[0], stream.fc(windows.mean(dim=0)))
    set_pooling(network, protocol(pool="global"))
    torch.testing.assert_close(stream.logits(features, 1)[0], stream.fc(features.mean(dim=(2, 3))))
    set_pooling(network, protocol())
    assert stream.window == 1  # 32 pixels are one position of the last map


@pytest.mark.parametrize("temporal", [
    {"pool": "max"}, {"pool": "average"}, {"pool": "none"}, {"pool": "max", "window": 5}, {"pool": "average", "window": 3},
])  # fmt: skip
def test_temporal_pooling_may_differ_from_training(temporal):
    trained, other, pictures = tied(pool="max"), tied(**temporal), video()
    other.load_state_dict(trained.state_dict())
    asked = protocol(temporal_pool=temporal["pool"], temporal_window=temporal.get("window"))
    set_pooling(trained, asked)
    for got, expected in zip(
        compute_logits(trained, [pictures], asked, CPU), compute_logits(other, [pictures], asked, CPU), strict=True
    ):
        assert torch.equal(got, expected)
    set_pooling(trained, protocol())
    plain = compute_logits(trained, [pictures], protocol(), CPU)[0]
    assert torch.equal(plain, compute_logits(tied(pool="max"), [pictures], protocol(), CPU)[0])


# The stage


@pytest.mark.parametrize(("options", "words"), [
    ({"ten_crop": True}, "25 chunks, no mirrors, corners and centre of 32, short side 32, synthetic split 1 test"),
    ({"centre_crop": True}, "25 chunks, no mirrors, centre 32, synthetic split 1 test"),
    ({"fully_conv": False}, "25 chunks, no mirrors, centre 32, synthetic split 1 test"),
    ({"pool": "global", "chunks": 3}, "3 chunks, no mirrors, whole frames, short side 32, global average, synthetic"),
    ({"temporal_pool": "max", "temporal_window": 2}, "short side 32, max over 2 in time, synthetic split 1 test"),
])  # fmt: skip
def test_result_says_how_it_was_measured(options, words, own):
    assert words in run_stage(own, "evaluate", model="fused", **options).results["protocol"]["words"]


def test_contradictory_protocols_are_refused(own):
    with pytest.raises(UsageError, match="ten_crop and centre_crop are two protocols"):
        run_stage(own, "evaluate", model="fused", ten_crop=True, centre_crop=True)
    with pytest.raises(UsageError, match="temporal_window needs temporal_pool"):
        run_stage(own, "evaluate", model="fused", temporal_window=5)


def test_validation_part_is_what_training_held_out(scratch):
    run = train_tiny(scratch, "flow", validation=0.3, seed=3, steps=1)
    held = load_scores(run_stage(scratch, "evaluate", part="validation").output("scores"))
    train = Store(scratch.data_dir("synthetic")).part("1", "train")
    assert set(held.ids) == {video.id for video in hold_out(train, 0.3, 0).held_out}
    assert held.protocol["seen_in_training"] == 0
    assert held.protocol["part"] == "validation" and 0 < len(held.ids) < 24
    assert len(load_scores(run_stage(scratch, "evaluate", part="train").output("scores")).ids) == 24

    train_tiny(scratch, "flow", validation=0.0, steps=1)
    with pytest.raises(DataError, match=r"training held no videos out \(validation = 0\)"):
        run_stage(scratch, "evaluate", part="validation")
    assert run.results["training_videos"] == 24 - len(held.ids)


def with_second_split(workspace: Workspace) -> None:
    """Give the set a second split in which some videos have changed sides."""
    path = workspace.data_dir("synthetic") / "dataset.json"
    header = read_record(path)
    train, test = (header["splits"]["1"][part] for part in ("train", "test"))
    header["splits"]["2"] = {"train": [*train[8:], *test], "test": train[:8]}
    write_record(path, header)


def test_all_splits_have_a_model_each_and_a_mean(scratch):
    with_second_split(scratch)
    models = [train_tiny(scratch, "flow", split=split, steps=2) for split in ("1", "2")]
    train_tiny(scratch, "flow", split="2", steps=2, seed=9)  # another experiment
    mean = run_stage(scratch, "evaluate", model=models[0].name, split="all").results
    assert mean["splits"]["1"]["of"] == [models[0].name] and mean["splits"]["2"]["of"] == [models[1].name]
    assert [mean["splits"][split]["videos"] for split in ("1", "2")] == [12, 8]
    shares = [mean["splits"][split]["accuracy"] for split in ("1", "2")]
    assert mean["accuracy"] == pytest.approx(sum(shares) / 2)
    low, high = mean["interval"]
    assert low <= mean["accuracy"] <= high
    late = run_stage(scratch, "evaluate", late_fusion=[models[0].name, models[0].name], split="all").results
    assert late["splits"]["2"]["of"] == [models[1].name] * 2

    train_tiny(scratch, "rgb", split="2", steps=1)
    with pytest.raises(DataError, match=r"split 1 has no model that was trained like appearance-resnet18-.*--split 1"):
        run_stage(scratch, "evaluate", split="all")


def test_lists_take_blanks_or_commas(own):
    result = call("evaluate", "--late-fusion", "appearance", "motion", "--stream-weights", "1", "3", "-w", own.root)
    assert result.exit_code == 0, result.stderr
    found = load_scores(newest(own).output("scores"))
    assert set(found.streams) == {"appearance", "motion"} and found.protocol["late_fusion_weights"] == [1.0, 3.0]
    wrong = call("evaluate", "--late-fusion", "appearance", "motoin", "-w", own.root)
    assert "'motoin': no such file, and no finished run" in errors_of(wrong)[0]


def newest(workspace: Workspace) -> Run:
    return next(run for run in workspace.runs() if run.record["verb"] == "evaluate")


@pytest.mark.slow
def test_torchrun_scores_each_video_once(own):
    alone = load_scores(newest_of(own, "fused").output("scores"))
    options = ("evaluate", "--model", "fused", "--chunks", "24", "-w", own.root)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "stmn", *map(str, options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("scores: ") == 1
    shared = load_scores(newest(own).output("scores"))
    assert shared.ids == alone.ids and shared.labels == alone.labels
    one = call(*options, "--force")
    assert one.exit_code == 0, one.stderr
    single = load_scores(newest(own).output("scores"))
    for name, rows in single.streams.items():
        torch.testing.assert_close(shared.streams[name], rows, rtol=1e-4, atol=1e-5)


def newest_of(workspace: Workspace, name: str) -> Run:
    return next(
        run for run in workspace.runs() if run.record["verb"] == "evaluate" and run.results["of"][0].startswith(name)
    )
