"""`stmn evaluate` (section 4.2): fully convolutional logits, late fusion, and what may not be tested."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, run_stage, train_tiny
from helpers.commands import call
from helpers.films import moving
from helpers.made_sets import MadeVideo, make_set
from helpers.shards import change_shard
from torch import Tensor

from stmn.errors import DataError, UsageError
from stmn.evaluation.baseline import measure_box_shape_baseline
from stmn.evaluation.inference import compute_logits, score_videos
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.scores import Scores, load_scores
from stmn.evaluation.video_input import VideoInput, read_stored_video
from stmn.nets.build import build_network
from stmn.nets.checkpoint import load_checkpoint, save_checkpoint
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network
from stmn.runtime.device import choose_device
from stmn.runtime.progress import Silent
from stmn.sampling import positions
from stmn.sampling.augment import FLOW_STD, Crop
from stmn.store.format.header import read_header
from stmn.store.format.read import Store
from stmn.workspace import Run, Workspace, read_run

CPU = choose_device("cpu")


def tied(size: int = 32, classes: int = 4) -> Network:
    """Two narrow tied streams with residual branches that matter; fresh ones end in gain 0."""
    streams = [StreamConfig(modality=modality, arch="resnet18", width=0.125) for modality in ("rgb", "flow")]
    net = build_network(
        NetworkConfig(
            classes=[f"class{number}" for number in range(classes)], size=size, stack_length=10, streams=streams,
            gate=GateConfig(), temporal=TemporalConfig(injector="residual", init="average", pool="max"),
        )
    ).eval()  # fmt: skip
    for name, parameter in net.named_parameters():
        if name.endswith("bn2.weight"):
            torch.nn.init.ones_(parameter)
    return net


def rolling(name: str, frames: int, height: int = 40, width: int = 40, seed: int = 0, **more: str) -> MadeVideo:
    """A video of a moving texture, with random flow levels."""
    pictures = torch.from_numpy(np.stack(moving(frames, height, width, dx=1 + seed % 3, seed=seed)))
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(110, 150, (frames - 1, 2, height, width), generator=generator, dtype=torch.uint8)
    return MadeVideo(name, more.pop("class_name", f"class{seed % 4}"), pictures, levels, **more)


@pytest.fixture(scope="module")
def motley(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Test videos of several sizes and lengths, one too short for a whole stack."""
    sizes = [(14, 40, 40), (14, 40, 40), (40, 40, 64), (14, 40, 40), (7, 40, 40), (14, 64, 40), (14, 64, 40)]
    videos = [rolling(f"v{seed}", *size, seed=seed, part="test") for seed, size in enumerate(sizes)]
    return Store(make_set(tmp_path_factory.mktemp("sets") / "motley", videos))


def protocol(**values: object) -> Protocol:
    return Protocol(**({"short_side": 37, "crop": 32, "chunks": 25, "flips": False} | values))


def scored(net: Network, store: Store, how: Protocol, ids: list[str] | None = None) -> dict[str, Tensor]:
    return score_videos(net, store, [store.videos[i] for i in ids or sorted(store.videos)], how, CPU, Silent())


# Fully convolutional scores


def test_whole_frame_of_training_size_equals_its_crop(motley):
    square = [name for name, video in sorted(motley.videos.items()) if video.width == video.height]
    whole, crop = (
        scored(tied(), motley, protocol(short_side=32, spatial=spatial), square)
        for spatial in ("fully_conv", "centre_crop")
    )
    assert all(torch.equal(whole[name], crop[name]) for name in ("appearance", "motion"))


def test_larger_frames_average_logits_over_training_windows():
    stream = tied(size=224).double().stream("motion")
    features = torch.randn(3 * 5, 64, 8, 10).double()  # three videos of five chunks; 224 pixels are 7 x 7 positions
    pooled = features.unflatten(0, (3, 5)).amax(dim=1)
    windows = [pooled[..., y : y + 7, x : x + 7].mean(dim=(2, 3)) for y in range(2) for x in range(4)]
    expected = torch.stack([stream.fc(window) for window in windows]).mean(dim=0)
    torch.testing.assert_close(stream.logits(features, 5), expected[:, None])


def test_frame_smaller_than_training_crop_is_one_window():
    stream = tied(size=224).double().stream("motion")
    features = torch.randn(2, 64, 3, 5).double()
    torch.testing.assert_close(stream.logits(features, 1), stream.fc(features.mean(dim=(2, 3)))[:, None])


def test_chunks_are_spread_evenly_each_with_its_stack(motley):
    for name, chunks in (("v2", 25), ("v0", 4), ("v4", 1)):
        video = motley.videos[name]
        times = positions.spread_positions(video.frames, 10, 25)
        assert len(times) == chunks
        pictures = read_stored_video(motley, video, ("appearance", "motion"), 10, protocol(short_side=40), CPU)
        rgb, flow = pictures.network_inputs(("appearance", "motion"), Crop(0, 0, video.height, video.width), CPU)
        assert rgb.shape == (chunks, 3, video.height, video.width)
        for row, t in enumerate(times):
            fields = motley.fields(name, positions.stack_times(t, video.frames, 10)).float()
            torch.testing.assert_close(flow[row], ((fields - 128) / FLOW_STD).flatten(0, 1))


def test_flips_average_video_and_mirror(motley):
    net, video = tied(), motley.videos["v2"]
    plain = read_stored_video(motley, video, net.names, 10, protocol(), CPU)
    u_and_v = plain.fields.flip(-1)
    mirror = VideoInput(plain.frames.flip(-1), torch.stack([256 - u_and_v[:, 0], u_and_v[:, 1]], dim=1), plain.stacks)
    both = compute_logits(net, [plain], protocol(flips=True), CPU)
    parts = [compute_logits(net, [pictures], protocol(), CPU) for pictures in (plain, mirror)]
    for stream in range(2):
        assert not torch.allclose(parts[0][stream], parts[1][stream])
        torch.testing.assert_close(both[stream], (parts[0][stream] + parts[1][stream]) / 2)


def test_grouped_videos_score_as_they_do_alone(motley):
    net, names = tied(), ["v3", "v0", "v1", "v2", "v6", "v4", "v5"]
    together = scored(net, motley, protocol(), names)
    for row, name in enumerate(names):
        alone = scored(net, motley, protocol(), [name])
        for stream in ("appearance", "motion"):
            torch.testing.assert_close(together[stream][row], alone[stream][0], rtol=1e-4, atol=1e-5)


def test_box_shape_baseline_finds_leaks_in_frame_sizes(tmp_path):
    def videos(tall: str):
        for seed in range(12):
            shape = (12, 40, 60) if seed % 2 else (12, 60, 40)
            yield rolling(f"v{seed}", *shape, seed=seed, class_name=tall if seed % 2 == 0 else "wide",
                          part="test" if seed > 7 else "train")  # fmt: skip

    leaking = measure_box_shape_baseline(Store(make_set(tmp_path / "leaking", videos("tall"))), "1")
    assert leaking["accuracy"] == 1 and leaking["videos"] == 4
    uniform = [rolling(f"v{seed}", 12, seed=seed, part="test" if seed > 3 else "train") for seed in range(8)]
    assert measure_box_shape_baseline(Store(make_set(tmp_path / "uniform", uniform)), "1") is None


# The stage


def evaluation(workspace: Workspace, name: str) -> Run:
    """The run that tested the model of a run whose name starts with `name`."""
    runs = [run for run in workspace.runs() if run.record["verb"] == "evaluate" and len(run.results["of"]) == 1]
    return next(run for run in runs if run.results["of"][0].startswith(name))


def scores_of(workspace: Workspace, name: str) -> Scores:
    return load_scores(evaluation(workspace, name).output("scores"))


def test_evaluate_scores_every_test_video_and_says_how(trained):
    store = Store(trained.data_dir("synthetic"))
    wanted = store.part("1", "test")
    for name, streams in (("appearance", 1), ("motion", 1), ("fused", 2)):
        found = scores_of(trained, name)
        assert found.ids == [video.id for video in wanted]
        assert [found.classes[label] for label in found.labels] == [video.class_name for video in wanted]
        assert len(found.streams) == streams
        assert found.protocol["spatial"] == "fully_conv" and found.protocol["chunks"] == 25
        assert (
            found.protocol["flips"] is False
        )  # the default is True, but mirroring changes the classes of this data set
        assert found.protocol["seen_in_training"] == 0
        assert "no mirrors, whole frames, short side 32, synthetic split 1 test" in found.protocol["words"]


def test_late_fusion_of_runs_averages_their_scores(own):
    parts = [scores_of(own, name).mean() for name in ("appearance", "motion")]
    of_models = run_stage(own, "evaluate", late_fusion=["appearance", "motion"])  # tests the models
    torch.testing.assert_close(load_scores(of_models.output("scores")).mean(), sum(parts) / 2)
    evaluations = [evaluation(own, name).name for name in ("appearance", "motion")]  # reads their scores
    weighted = run_stage(own, "evaluate", late_fusion=evaluations, stream_weights=[1.0, 3.0])
    torch.testing.assert_close(load_scores(weighted.output("scores")).mean(), (parts[0] + 3 * parts[1]) / 4)
    assert set(weighted.results["streams"]) == {"appearance", "motion"}


def with_training_list(path: Path, videos: list[str], data: str = "synthetic") -> None:
    """Make a model file say that it was trained on other videos."""
    net, description = load_checkpoint(path)
    trained_on = description.trained_on.model_copy(update={"videos": videos, "data": data})
    save_checkpoint(path, net, type(description)(**(vars(description) | {"trained_on": trained_on})))


def test_training_videos_are_not_tested_unless_allowed(own):
    path = own.find_input("appearance", "model").path
    test = read_header(own.data_dir("synthetic")).part("1", "test")
    with_training_list(path, ["another", *test[:3]])
    before = sorted(own.runs_dir.iterdir())
    for model in ({"model": str(path)}, {"late_fusion": [str(path), "motion"]}):
        with pytest.raises(DataError, match=r"trained on 3 of the 12 test videos of split 1 .*--allow-seen"):
            run_stage(own, "evaluate", **model)
    with pytest.raises(DataError, match="training held no videos out"):
        run_stage(own, "evaluate", model="motion", part="validation")
    assert sorted(own.runs_dir.iterdir()) == before, "a folder was opened for a test that can't be"
    run = run_stage(own, "evaluate", model=str(path), allow_seen=True)
    assert run.results["protocol"]["seen_in_training"] == 3

    with_training_list(path, test, data="another set")  # there the same ids are other videos
    assert run_stage(own, "evaluate", model=str(path)).results["protocol"]["seen_in_training"] == 0


def test_videos_seen_under_another_name_are_seen(own, tmp_path):
    """A list that names the training files by other paths, in a set of another name."""
    source = own.data_dir("synthetic") / "videos"
    header = read_header(own.data_dir("synthetic"))
    with Store(own.data_dir("synthetic")) as store:
        class_of = {video_id: store.video(video_id).class_name for video_id in header.part("1", "train")}
    rows = ["path,class,split"]
    for number, (video_id, class_name) in enumerate(class_of.items()):
        copy = tmp_path / "elsewhere" / f"clip{number}.mp4"
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(source / video_id, copy)
        rows.append(f"{copy},{class_name},{'test' if number < 12 else 'train'}")
    listed = tmp_path / "again.csv"
    listed.write_text("\n".join(rows) + "\n")
    run_stage(own, "prepare", videos=listed, out="again", short_side=40, bound=5.0)
    with pytest.raises(
        DataError, match=r"trained on 12 of the 12 test videos of split 1 \(it was trained on synthetic"
    ):
        run_stage(own, "evaluate", data="again", model="appearance")


def with_second_split(workspace: Workspace) -> None:
    """Add a split that tests what split 1 trains on."""
    header = read_header(workspace.data_dir("synthetic"))
    first = header.splits["1"]
    second = {"train": first["test"], "test": first["train"]}
    header.model_copy(update={"splits": {"1": first, "2": second}}).write(workspace.data_dir("synthetic"))


def test_streams_that_learned_from_the_test_videos_are_not_fused(own):
    with_second_split(own)
    fuse = {"split": "2", "chunks": 2, "stride_min": 1, "stride_max": 2, **TINY_TRAINING}
    with pytest.raises(DataError, match=r"no appearance stream was trained on synthetic, split 2; .*--split 2"):
        run_stage(own, "fuse", **fuse)
    with pytest.raises(
        DataError,
        match=r"^appearance-\S+ was trained on 24 of the 24 test videos of split 2 \(it was trained on split 1\); name an "
        r"appearance stream of that split, or train it: stmn train-stream --modality rgb --split 2 --workspace "
        r"\S+; --allow-seen ties it anyway$",
    ):
        run_stage(own, "fuse", appearance="appearance", motion="motion", **fuse)
    assert not [run for run in own.runs() if run.record["options"].get("split") == "2"]  # nothing was started

    allowed = call(
        "fuse", "--appearance", "appearance", "--motion", "motion", "--split", "2", "--chunks", "2", "--allow-seen",
        "--batch", "4", "--steps", "1", "--validation", "0", "--stride-min", "1", "--stride-max", "2", "-w", own.root,
    )  # fmt: skip
    assert allowed.exit_code == 0, allowed.stderr
    assert re.search(
        r"motion-\S+ was trained on split 1, and is tied here on synthetic split 2; it has learned from 24 of its 24 "
        r"test videos",
        allowed.stderr,
    )
    with pytest.raises(DataError, match="was trained on 24 of the 24 test videos of split 2"):
        run_stage(own, "evaluate", split="2")


def rename_contents(workspace: Workspace, copies: dict[str, str]) -> None:
    """Make some videos of the set copies of others, as their stored hashes say."""
    folder = workspace.data_dir("synthetic")
    with Store(folder) as store:
        hashes = {video_id: video.source_hash for video_id, video in store.videos.items()}
    for path in (folder / "shards").glob("*.sqlite"):
        for copy, original in copies.items():
            change_shard(path, "UPDATE videos SET source_hash = ? WHERE id = ?", hashes[original], copy)


def test_copies_within_a_set_are_named_in_testing_and_do_not_stop_a_training(scratch):
    """A set may hold the same file in both parts; streams of this very set still fit it."""
    parts = read_header(scratch.data_dir("synthetic")).splits["1"]
    rename_contents(scratch, {parts["test"][0]: parts["train"][0]})
    for modality in ("rgb", "flow"):
        train_tiny(scratch, modality, steps=1)
    run_stage(scratch, "fuse", chunks=2, stride_min=1, stride_max=2, **(TINY_TRAINING | {"steps": 1}))
    with pytest.raises(
        DataError, match=r"1 of the 12 test videos of split 1 \(it was trained on split 1; 1 of them under another name"
    ):
        run_stage(scratch, "evaluate")


def test_streams_of_an_older_version_are_not_validated_by_guess(own):
    for name in ("appearance", "motion"):
        path = own.find_input(name, "model").path
        read_run(path.parent).save(digests={})  # as older versions
        net, description = load_checkpoint(path)
        trained_on = description.trained_on.model_copy(update={"held_out": None, "contents": []})
        save_checkpoint(path, net, replace(description, trained_on=trained_on))
    fuse = {"chunks": 2, "stride_min": 1, "stride_max": 2, **TINY_TRAINING, "steps": 1}
    with pytest.raises(DataError, match="of an older version of stmn, does not say which it held out: train it again"):
        run_stage(own, "fuse", **(fuse | {"validation": 0.1}))
    with pytest.raises(DataError, match="does not name its validation list, because an older version of stmn wrote it"):
        run_stage(own, "evaluate", model="appearance", part="validation")
    assert run_stage(own, "fuse", **(fuse | {"seed": 9})).done


def test_list_that_nothing_can_be_held_out_of_stops_a_training_before_it_writes(tmp_path):
    pictures = moving(12, 40, 40)
    levels = torch.full((11, 2, 40, 40), 128, dtype=torch.uint8)
    videos = [MadeVideo(f"{name}.mp4", name, torch.from_numpy(np.stack(pictures)), levels) for name in ("hug", "kick")]
    make_set(tmp_path / "data" / "pair", videos)
    workspace = Workspace(tmp_path)
    with pytest.raises(DataError, match=r"validation = 0.1: .* class 'hug' would be left without any.*validation = 0"):
        train_tiny(workspace, "rgb", validation=0.1)
    assert list(workspace.runs()) == []


def test_newest_model_is_one_of_the_split(own):
    with_second_split(own)
    train_tiny(own, "rgb", split="2", steps=1)
    assert run_stage(own, "evaluate").results["of"][0].startswith("fused-multiply")
    assert run_stage(own, "evaluate", split="2").results["of"][0].startswith("appearance")


def test_streams_of_another_preparation_are_refused_before_anything_is_written(own):
    header = read_header(own.data_dir("synthetic"))
    slower = header.preparation.model_copy(update={"bound": 20.0})
    header.model_copy(update={"preparation": slower}).write(own.data_dir("synthetic"))
    runs = {run.name for run in own.runs()}
    with pytest.raises(
        DataError, match=r"^appearance-\S+ was trained on data prepared with bound = 5.0; synthetic has 20"
    ):
        run_stage(own, "fuse", appearance="appearance", motion="motion", chunks=2, **TINY_TRAINING)
    assert {run.name for run in own.runs()} == runs


def test_fused_network_does_not_validate_on_what_its_streams_learned_from(scratch):
    streams = {}
    for name, modality in (("appearance", "rgb"), ("motion", "flow")):
        streams[name] = train_tiny(scratch, modality, steps=1, seed=7, validation=0.25)  # its own seed and share
    learned = load_checkpoint(streams["motion"].output("model"))[1].trained_on
    assert len(learned.videos) == 18 and len(learned.held_out.videos) == 6
    fuse = {"chunks": 2, "stride_min": 1, "stride_max": 2, **TINY_TRAINING, "steps": 1}
    for options in ({"validation": 0.5}, {"validation": 0.25, "validation_seed": 1}):
        with pytest.raises(
            DataError, match=r"validation videos .*same --validation and --validation-seed, or set valid"
        ):
            run_stage(scratch, "fuse", **(fuse | options))
    smaller = run_stage(scratch, "fuse", **(fuse | {"validation": 0.1, "seed": 3}))
    known = load_checkpoint(smaller.output("model"))[1].trained_on
    assert set(known.held_out.videos) < set(learned.held_out.videos)
    scores = load_scores(run_stage(scratch, "evaluate", model=str(smaller.path), part="validation").output("scores"))
    assert scores.protocol["seen_in_training"] == 0 and set(scores.ids) == set(known.held_out.videos)
    everything = run_stage(scratch, "fuse", **(fuse | {"validation": 0.0}))
    assert len(load_checkpoint(everything.output("model"))[1].trained_on.videos) == 24


@pytest.mark.parametrize(
    ("key", "value"), [("bound", 6.0), ("short_side", 64), ("flow", "dis"), ("camera_motion", "subtract")]
)
def test_model_is_not_tested_on_other_preparation(own, key, value):
    header = read_header(own.data_dir("synthetic"))
    changed = header.preparation.model_copy(update={key: value})
    header.model_copy(update={"preparation": changed}).write(own.data_dir("synthetic"))
    with pytest.raises(DataError, match=rf"prepared with {key} = .*; synthetic has {value}"):
        run_stage(own, "evaluate", model="appearance")


def test_model_is_not_tested_on_other_classes(own):
    header = read_header(own.data_dir("synthetic"))
    header.model_copy(update={"classes": ["up", "right", "left", "down"]}).write(own.data_dir("synthetic"))
    with pytest.raises(DataError, match=r"classes .* which are not those of data set synthetic"):
        run_stage(own, "evaluate", model="appearance")


def test_evaluate_reports_missing_and_conflicting_options(own, scratch):
    with pytest.raises(
        DataError, match=r"no trained model of synthetic, split 1 in this workspace; make one with: stmn train-stream"
    ):
        run_stage(scratch, "evaluate")
    with pytest.raises(UsageError, match="choose a model or late_fusion, not both"):
        run_stage(own, "evaluate", model="appearance", late_fusion=["appearance", "motion"])
