"""Input that doesn't fit is refused before the first step, in one line: what, where, what to do."""

import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
import timm
import torch
from conftest import train_tiny
from helpers.commands import call, errors_of, write_recipe
from helpers.made_sets import MadeVideo, make_set
from safetensors.torch import load_file, save_file

from stmn.runtime.tensor_files import KEY, read_metadata
from stmn.store.format.read import Store
from stmn.workspace import Workspace

FUSE = ("fuse", "--steps", "1", "--batch", "8", "--micro-batch", "8", "--chunks", "2")
STREAM = ("train-stream", "--width", "0.25", "--size", "32", "--steps", "1", "--batch", "8", "--micro-batch", "8")


def refused(workspace: Workspace, *command: object) -> str:
    """The only line of a command's error, before anything was trained."""
    result = call(*command, "--workspace", workspace.root)
    assert result.exit_code in (1, 2)
    (line,) = errors_of(result)
    assert "training:" not in result.stderr  # the progress bar never appeared
    assert not list(workspace.runs_dir.glob("*/training.safetensors"))
    return line


def test_other_classes_than_the_checkpoints_are_refused(own):
    frames = torch.randint(0, 256, (14, 40, 40, 3), dtype=torch.uint8)
    levels = torch.full((13, 2, 40, 40), 128, dtype=torch.uint8)
    make_set(own.data_dir("other"), [MadeVideo(f"{name}/1", name, frames, levels) for name in ("run", "jump", "fall")])
    line = refused(own, *FUSE, "--data", "other")
    assert line == (
        "no appearance stream was trained on other, split 1; make it with: stmn train-stream --modality rgb --data "
        f"other --workspace {own.root}"
    )
    line = refused(own, *FUSE, "--data", "other", "--appearance", "appearance", "--motion", "motion", "--validation", 0)
    assert re.fullmatch(r"appearance-\S+ knows 4 classes \(.*\), which are not those of data set other", line)


def test_set_of_one_class_is_refused(own):
    frames = torch.randint(0, 256, (14, 40, 40, 3), dtype=torch.uint8)
    levels = torch.full((13, 2, 40, 40), 128, dtype=torch.uint8)
    make_set(own.data_dir("other"), [MadeVideo(f"videos/{name}", "videos", frames, levels) for name in ("run", "jump")])
    line = refused(own, *STREAM, "--modality", "rgb", "--data", "other", "--validation", 0.5)
    assert line == (
        f"{own.data_dir('other')}: all videos are of one class, 'videos'; training needs at least two: prepare a folder "
        "that holds a folder per class"
    )


def test_checkpoint_of_another_architecture_is_refused(own, tmp_path):
    fused = own.find_input("fused", "model").name
    assert refused(own, *FUSE, "--appearance", fused).startswith(f"{fused}: is not a model of one appearance stream")
    deeper = train_tiny(own, "flow", arch="resnet50", steps=1).name
    assert "can't be tied" in refused(own, *FUSE, "--motion", deeper, "--validation", 0)
    weights = tmp_path / "resnet18.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), weights)
    line = refused(own, *STREAM[:1], "--width", 1, *STREAM[3:], "--arch", "resnet34", "--weights", weights)
    assert str(weights) in line and "resnet34" in line


def test_set_without_flow_is_refused(scratch):
    with Store(scratch.data_dir("synthetic")) as store:
        shards = store.shards
    for shard in shards:
        with sqlite3.connect(shard) as connection:
            connection.execute("DELETE FROM pictures WHERE (key >> 32) & 1 = 1")
    line = refused(scratch, *STREAM, "--arch", "resnet18", "--weights", "none", "--modality", "flow")
    assert "has no flow stored, which this network is trained on" in line
    assert call(*STREAM, "--arch", "resnet18", "--weights", "none", "--workspace", scratch.root).exit_code == 0


def test_stacks_of_another_length_are_refused(own, tmp_path):
    train_tiny(own, "flow", stack_length=4, steps=1)
    assert "the streams don't fit: stack_length is 10 for appearance and 4 for motion" in refused(own, *FUSE)
    recipe = write_recipe(
        tmp_path / "r.toml", 'name = "r"\ndata = "synthetic"',
        f'id = "f"\nuses = "fuse"\nsteps = 1\nappearance = "{own.find_input("appearance", "model").path}"\n'
        f'motion = "{own.find_input("motion", "model").path}"',
    )  # fmt: skip
    assert "stack_length is 10 for appearance and 4 for motion" in refused(own, "run", recipe)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def cut_in_its_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_shape(path: Path) -> None:
    tensors = load_file(path)
    name = "streams.motion.backbone.layer2.0.conv1.weight"
    save_file(tensors | {name: tensors[name][:-1].contiguous()}, path, metadata={KEY: json.dumps(read_metadata(path))})


def with_another_description(path: Path) -> None:
    about = read_metadata(path)
    about["network"]["streams"][0]["width"] = "wide"
    save_file(load_file(path), path, metadata={KEY: json.dumps(about)})


def with_text_for_a_description(path: Path) -> None:
    save_file(load_file(path), path, metadata={KEY: "{"})


@pytest.mark.parametrize("damage", [
    cut_short, cut_in_its_header, empty, of_another_shape, with_another_description, with_text_for_a_description,
])  # fmt: skip
def test_truncated_or_edited_checkpoint_is_refused(own, tmp_path, damage):
    path = shutil.copy(own.find_input("motion", "model").path, tmp_path / "edited.safetensors")
    damage(path)
    line = refused(own, *FUSE, "--motion", path, "--validation", 0)
    assert line.startswith(f"{path}: ")
    assert any(word in line for word in ("is damaged", "don't fit the network", "description is damaged"))


def test_empty_range_of_strides_is_refused(own):
    assert refused(own, *FUSE, "--stride-max", 3) == "fuse: stride_min = 5 is above stride_max = 3: set both"
    assert refused(own, *FUSE, "--stride-min", 9, "--stride-max", 8).startswith("fuse: stride_min = 9 is above")


def test_learning_rate_that_is_no_number_is_refused(own, tmp_path):
    assert "'--lr'" in refused(own, *FUSE, "--lr", "fast")
    assert "lr = -1" in refused(own, *FUSE, "--lr", "-1")
    recipe = write_recipe(tmp_path / "r.toml", 'name = "r"', 'id = "m"\nuses = "train-stream"\nlr = "fast"')
    line = refused(own, "run", recipe)
    assert "stage 1 ('m'): lr = 'fast': " in line and "number" in line


def test_a_list_of_gpus_is_for_prepare_alone(scratch):
    """In a recipe, stages that use one GPU take the first."""
    train = ["train-stream", "--modality", "flow", "--steps", 1]
    refused = call(*train, "--device", "cuda:0,cuda:1", "-w", scratch.root)
    assert refused.exit_code == 2 and errors_of(refused) == [
        "device 'cuda:0,cuda:1': only prepare uses several; name one, or start a process for each GPU (torchrun "
        "--nproc-per-node 2 -m stmn ...)"
    ]
    stage = (
        'id = "motion"\nuses = "train-stream"\nmodality = "flow"\narch = "resnet18"\nwidth = 0.25\nweights = "none"\n'
        'size = 32\nbatch = 2\nmicro_batch = 2\nsteps = 1\nvalidation = 0.0\nschedule = "cosine"'
    )
    recipe = write_recipe(scratch.root / "one.toml", 'name = "one"\ndata = "synthetic"', stage)
    first = call("run", recipe, "--device", "cpu,cuda:1", "-w", scratch.root)
    assert first.exit_code == 0, first.stderr
