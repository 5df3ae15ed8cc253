"""A stream starts from a model that was trained here: a stream, or the same stream of a fused network."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import timm
import torch
from conftest import run_stage
from helpers.commands import call, errors_of, over, write_recipe
from safetensors.torch import load_file, save_file
from torch import Tensor

from stmn.nets.checkpoint import read_description
from stmn.runtime.json_files import read_record, write_record
from stmn.runtime.tensor_files import KEY, read_metadata, read_tensors, save_tensors
from stmn.workspace import Run, Workspace

#: a step that changes nothing that matters
TRAIN = shlex.split(
    "train-stream --arch resnet18 --width 0.25 --size 32 --batch 8 --micro-batch 8 --steps 1 --schedule cosine "
    "--lr 1e-12 --validation 0 --bn-passes 0"
)


def model(workspace: Workspace, name: str) -> Path:
    """The model file of a run."""
    return workspace.find_input(name, "model").path


def started(workspace: Workspace, weights: object, *options: object) -> tuple[dict[str, Tensor], str]:
    """The weights of a stream that has started from others, without their prefix, and the line that says so."""
    done = call(*over(TRAIN, "--weights", weights, *options, "-w", workspace.root))
    assert done.exit_code == 0, done.stderr
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "starting from" in line]
    tensors = load_file(workspace.newest("model").output("model"))
    return {name.split(".", 2)[2]: value for name, value in tensors.items()}, lines[0].partition("starting from ")[2]


def same(one: dict[str, Tensor], other: dict[str, Tensor], suffix: str = "") -> bool:
    """True if the parameters whose names end so are equal."""
    names = [n for n in one if n.endswith(suffix) and not n.endswith(("running_mean", "running_var", "tracked"))]
    assert names
    return all(torch.allclose(one[name], other[name], rtol=0, atol=1e-6) for name in names)


def stream_of(path: Path, stream: str) -> dict[str, Tensor]:
    """The tensors of a stream in a model file."""
    prefix = f"streams.{stream}."
    return {name.removeprefix(prefix): v for name, v in load_file(path).items() if name.startswith(prefix)}


@pytest.mark.parametrize("form", ["file", "folder", "name"])
def test_stream_starts_from_a_file_a_folder_or_a_run_by_name(own, form):
    path = model(own, "motion")
    weights = {"file": path, "folder": path.parent, "name": path.parent.name}[form]
    made, line = started(own, weights, "--modality", "flow")
    assert same(made, stream_of(path, "motion"))  # the classifier too
    assert line == f"{path if form == 'file' else path.parent.name}, its motion stream"


def test_stream_of_a_fused_network_leaves_filters_and_gates_behind(own):
    path = model(own, "fused")
    for modality, stream in (("rgb", "appearance"), ("flow", "motion")):
        made, line = started(own, path.parent.name, "--modality", modality)
        assert line == f"{path.parent.name}, its {stream} stream; without its temporal filters"
        assert same(made, stream_of(path, stream)) and not any("temporal" in name for name in made)


def test_other_classes_get_a_new_classifier(own, tmp_path):
    path = model(own, "motion")
    for classes, reason in (
        (["down", "left"], "because it knows 2 classes and this set has 4"),
        (["up", "down", "left", "right"], "because its 4 classes are in another order"),
        (["a", "b", "c", "d"], "because its 4 classes have other names"),
    ):
        other = tmp_path / f"{len(classes)}{classes[0]}.safetensors"
        rewrite(path, other, classes)
        made, line = started(own, other, "--modality", "flow")
        assert line == f"{other}, its motion stream; a new classifier, {reason}"
        kept = stream_of(path, "motion")
        assert same(made, kept, "conv1.weight") and made["fc.weight"].shape == (4, kept["fc.weight"].shape[1])
        assert not torch.allclose(made["fc.weight"], kept["fc.weight"])


def rewrite(path: Path, copy: Path, classes: list[str]) -> None:
    """Write a model file that knows other classes."""
    tensors, about = read_tensors(path), read_metadata(path)
    about["network"]["classes"] = classes
    for what in ("weight", "bias"):
        tensors[f"streams.motion.fc.{what}"] = tensors[f"streams.motion.fc.{what}"][: len(classes)].clone()
    save_tensors(copy, tensors, about)


def test_motion_starts_from_an_appearance_stream_as_from_imagenet(own):
    kept = stream_of(model(own, "appearance"), "appearance")
    made, line = started(own, model(own, "appearance").parent.name, "--modality", "flow")
    assert "conv1 averaged over its colours, for each flow channel" in line
    assert "a new classifier, because that stream reads rgb" in line
    expected = kept["backbone.conv1.weight"].mean(dim=1, keepdim=True).expand(-1, 20, -1, -1)
    torch.testing.assert_close(made["backbone.conv1.weight"], expected, rtol=0, atol=1e-6)
    assert same(made, kept, "layer4.1.conv2.weight")


def test_motion_starts_from_a_stack_of_another_length(own):
    """Motion that does not change has the response that it had; u and v stay apart."""
    kept = stream_of(model(own, "motion"), "motion")["backbone.conv1.weight"]
    made, line = started(own, model(own, "motion"), "--modality", "flow", "--stack-length", 4)
    assert line.endswith("its motion stream; conv1 averaged over its stack of 10 fields, for a stack of 4")
    field = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    before, after = (
        torch.nn.functional.conv2d(field.repeat(1, length, 1, 1), weight)
        for length, weight in ((10, kept), (4, made["backbone.conv1.weight"]))
    )
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("motion", "--modality rgb", "has a motion stream only, and an appearance stream can't start from that"),
        ("motion", "--modality flow --width 0.5", "its motion stream is a resnet18 of width 0.25, not a resnet18 of width 0.5; use --arch resnet18 --width 0.25"),
        ("fused", "--modality flow --arch resnet34", "its motion stream is a resnet18 of width 0.25, not a resnet34 of width 0.25; use --arch resnet18 --width 0.25"),
    ],
)  # fmt: skip
def test_stream_that_does_not_fit_is_refused_before_anything_is_written(own, source, options, message):
    name, runs = model(own, source).parent.name, len(list(own.runs()))
    done = call(*over(TRAIN, *shlex.split(options), "--weights", name, "-w", own.root))
    assert errors_of(done) == [f"{name}: {message}"]
    assert len(list(own.runs())) == runs and not [p for p in own.runs_dir.iterdir() if not (p / "run.json").exists()]


def test_weights_that_are_nothing_are_refused_with_the_nearest_name(own):
    (line,) = errors_of(call(*TRAIN, "--weights", "imagnet", "-w", own.root))
    assert line == "weights = imagnet: no such weights (did you mean 'imagenet'?)"
    (line,) = errors_of(call(*TRAIN, "--weights", "motoin-resnet18", "-w", own.root))
    assert line.startswith("'motoin-resnet18': no such file, and no finished run with model in ")


def test_same_weights_by_another_name_are_the_same_run(own, tmp_path):
    """A file is identified by its content, a run by its fingerprint."""
    path = model(own, "motion")
    shutil.copy(path, tmp_path / "copy.safetensors")
    done = [
        call(*TRAIN, "--modality", "flow", "--weights", weights, "-w", own.root)
        for weights in (path, tmp_path / "copy.safetensors", path.parent, path.parent.name)
    ]
    assert ["up to date" in one.stderr for one in done] == [False, True, False, True]
    tensors = load_file(path)
    tensors["streams.motion.fc.bias"] += 1
    with open(path, "rb") as file:
        about = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
    save_file(tensors, tmp_path / "copy.safetensors", about)
    done = call(*TRAIN, "--modality", "flow", "--weights", tmp_path / "copy.safetensors", "-w", own.root)
    assert "up to date" not in done.stderr


# what the start has learned from --------------------------------------------------------------------------------------


def swap_parts(workspace: Workspace) -> None:
    """Add split `2`, whose test videos are the training videos of split 1."""
    header = workspace.data_dir("synthetic") / "dataset.json"
    about = read_record(header)
    first = about["splits"]["1"]
    about["splits"]["2"] = {"train": first["test"], "test": first["train"]}
    write_record(header, about)


def test_unlisted_training_videos_are_mentioned_only_if_there_is_something_to_test_on(own, tmp_path):
    exported = run_stage(own, "export", model="motion", format="safetensors").output("export")
    weights = shutil.copy(exported, tmp_path / "for_others.safetensors")  # without the list beside it
    for validation, said in ((0, False), (0.25, True)):
        done = call(
            *over(TRAIN, "--modality", "flow", "--weights", weights, "--validation", validation, "-w", own.root)
        )
        assert done.exit_code == 0, done.stderr
        assert ("it may have been trained on the validation videos" in done.stderr) == said


def test_what_the_start_has_seen_carries_over(own):
    swap_parts(own)
    path = model(own, "motion")
    done = call(*TRAIN, "--modality", "flow", "--weights", path, "--split", 2, "-w", own.root)
    assert done.exit_code == 0, done.stderr
    said = f"{path} was trained on 24 of the 24 test videos of split 2, so what starts from it can't be tested on them"
    assert said in done.stdout + done.stderr
    made = own.newest("model")
    known = read_description(made.output("model")).trained_on
    assert known.split == "2" and len(known.videos) == 36
    (line,) = errors_of(call("evaluate", made.name, "--split", 2, "-w", own.root))
    assert "trained on 24 of the 24 test videos" in line


def test_start_that_has_seen_the_validation_videos_is_refused(own):
    path = model(own, "motion")  # trained with --validation 0
    done = call(*over(TRAIN, "--modality", "flow", "--weights", path, "--validation", 0.3, "-w", own.root))
    (line,) = errors_of(done)
    assert line.startswith(f"{path} was trained on ") and line.endswith(
        "start from a model with the same --validation and --validation-seed, or set validation = 0 here"
    )


# recipes --------------------------------------------------------------------------------------------------------------

HEAD = 'name = "r"\ndata = "synthetic"\nseed = 1'
SMALL = (
    'arch = "resnet18"\nwidth = 0.25\nsize = 32\nbatch = 8\nmicro_batch = 8\nsteps = 1\nlr = 1e-12\n'
    'schedule = "cosine"\nvalidation = 0.0\nbn_passes = 0'
)


def stage(name: str, modality: str, weights: str, more: str = SMALL) -> str:
    """A train-stream stage."""
    return f'id = "{name}"\nuses = "train-stream"\nmodality = "{modality}"\nweights = "{weights}"\n{more}'


def test_stages_of_a_recipe_chain(scratch, tmp_path):
    recipe = write_recipe(tmp_path / "r.toml", HEAD, stage("first", "rgb", "none"), stage("second", "flow", "first"))
    done = call("run", recipe, "-w", scratch.root)
    assert done.exit_code == 0, done.stderr
    runs: dict[str, Run] = {run.record["stage"]: run for run in scratch.runs()}
    assert runs["second"].record["inputs"] == {"weights": [runs["first"].record["fingerprint"]]}
    first, second = (stream_of(runs[n].output("model"), s) for n, s in (("first", "appearance"), ("second", "motion")))
    assert same(second, first, "layer4.1.conv2.weight")
    again = call("run", recipe, "-w", scratch.root)
    assert again.stderr.count("up to date") == 2


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([stage("a", "rgb", "b"), stage("b", "rgb", "none")], "stage 1 ('a'): weights = 'b': no earlier stage has this id, and no installed package has weights of this name"),
        ([stage("a", "rgb", "imagnet")], "stage 1 ('a'): weights = 'imagnet': no earlier stage has this id, and no installed package has weights of this name (did you mean 'imagenet'?)"),
        ([stage("a", "rgb", "gone.pth")], "stage 1 ('a'): gone.pth: no such weights file; use an existing file, none, imagenet or auto"),
        ([stage("a", "flow", "none"), stage("b", "rgb", "a")], "a: has a motion stream only, and an appearance stream can't start from that"),
        ([stage("a", "flow", "none"), stage("b", "flow", "a", SMALL.replace("0.25", "0.5"))], "a: its motion stream is a resnet18 of width 0.25, not a resnet18 of width 0.5; use --arch resnet18 --width 0.25"),
    ],
)  # fmt: skip
def test_recipe_whose_stages_do_not_chain_is_refused_as_a_whole(stages, message, tmp_path):
    recipe = write_recipe(tmp_path / "r.toml", HEAD, *stages)
    done = call("recipes", "validate", recipe)
    assert done.exit_code != 0
    (line,) = errors_of(done)
    assert line.endswith(message)


# files of other programs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"model_state_dict": {f"_orig_mod.module.{name}": value for name, value in state.items()}},
    ],
    ids=["module", "model", "state_dict, module", "model_state_dict, compiled"],
)
def test_state_dicts_of_trainers_are_read(scratch, tmp_path, wrap):
    state = timm.create_model("resnet18").state_dict()
    torch.save(wrap(state), tmp_path / "theirs.pth")
    made, line = started(scratch, tmp_path / "theirs.pth", "--modality", "rgb", "--width", 1)
    assert line == str(tmp_path / "theirs.pth")
    for name in ("conv1.weight", "layer4.1.conv2.weight"):
        assert torch.allclose(made[f"backbone.{name}"], state[name], rtol=0, atol=1e-6)


def test_training_state_is_no_model(own, tmp_path):
    about = {KEY: json.dumps({"training_state": {}})}
    save_file({"network.x": torch.zeros(1)}, tmp_path / "training.safetensors", about)
    (line,) = errors_of(call(*TRAIN, "--weights", tmp_path / "training.safetensors", "-w", own.root))
    assert line == f"{tmp_path}/training.safetensors: not a model file: it describes no network"


def test_frozen_layers_of_a_trained_stream(own):
    made, _ = started(own, model(own, "motion"), "--modality", "flow", "--bn", "frozen", "--lr", 0.1)
    kept = stream_of(model(own, "motion"), "motion")
    names = [name for name in kept if ".bn" in name]
    assert names and all(torch.equal(made[name], kept[name]) for name in names)


def test_other_flow_is_said(own):
    """A set with another bound shows a motion stream other values."""
    size = {"train": 24, "test": 12}
    run_stage(own, "prepare", dataset="synthetic", dataset_options=size, short_side=40, bound=8.0, out="wide")
    path = model(own, "motion")
    done = call(*TRAIN, "--modality", "flow", "--weights", path, "--data", "wide", "-w", own.root)
    assert done.exit_code == 0, done.stderr
    assert (
        f"{path} was trained on flow that was made in another way: bound = 5.0, here 8.0" in done.stdout + done.stderr
    )


def test_trained_stream_that_is_damaged_is_refused(own, tmp_path):
    whole = model(own, "motion").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (line,) = errors_of(call(*TRAIN, "--weights", tmp_path / "cut.safetensors", "-w", own.root))
    assert line.startswith(f"{tmp_path}/cut.safetensors: not a readable state dict: ")
