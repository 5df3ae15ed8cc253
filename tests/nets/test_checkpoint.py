"""A checkpoint describes itself; anything else is refused in one line, and nothing in it is executed."""

import json
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.amp import GradScaler
from torch.optim import SGD

from stmn.errors import CheckpointError, PluginError, StmnError, UsageError
from stmn.nets.backbones import create_backbone
from stmn.nets.build import build_network
from stmn.nets.checkpoint import Description, TrainedOn, load_checkpoint, save_checkpoint
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.weights.pretrained import load_weights, resolve_weights
from stmn.runtime.progress import Silent
from stmn.runtime.ranks import ALONE
from stmn.store.format.header import Preparation
from stmn.training.kept import KeptWeights
from stmn.training.plan import Plan
from stmn.training.schedule import Schedule
from stmn.training.state import STATE_FILE, SavedState, TrainingState

DESCRIPTION = Description(
    network=NetworkConfig(
        classes=["wave", "jump", "rén"],
        size=32,
        stack_length=4,
        streams=[
            StreamConfig(modality="rgb", arch="resnet18", width=0.125),
            StreamConfig(modality="flow", arch="resnet34", width=0.125, dropout=0.8),
        ],
        gate=GateConfig(fusion="add"),
        temporal=TemporalConfig(injector="residual", pool="max"),
    ),
    preparation=Preparation(short_side=40, flow="tvl1", bound=5.0, quality=95, camera_motion="keep"),
    trained_on=TrainedOn(data="mine", split="1", videos=["wave/a.mp4", "jump/b.mp4"]),
    keeps=["mirror"],
    training={"lr": 0.1},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, build_network(DESCRIPTION.network, seed=3), DESCRIPTION)
    return path


@pytest.mark.parametrize(("size", "keeps", "short_side"), [
    (224, ["mirror", "crop"], 256),
    (112, ["mirror", "crop"], 128),
    (224, ["mirror"], 224),  # training saw whole frames
])  # fmt: skip
def test_testing_has_the_scale_of_training(size, keeps, short_side):
    network = DESCRIPTION.network.model_copy(update={"size": size})
    assert replace(DESCRIPTION, network=network, keeps=keeps).test_short_side == short_side


def edited(path: Path, edit) -> Path:
    """Pass a file's tensors and description through `edit(tensors, about)` and write them again, without a digest."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["stmn"])
    del about["digest"]
    replaced = edit(tensors, about)
    save_file(tensors, path, metadata={"stmn": json.dumps(about if replaced is None else replaced)})
    return path


def refusal(path: Path, kind: type[StmnError] = CheckpointError) -> str:
    """The one line that refuses a file; it names the file."""
    with pytest.raises(kind) as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
    assert kind is not CheckpointError or str(path) in str(error.value)
    return str(error.value)


def test_checkpoint_alone_restores_the_network(saved):
    original = build_network(DESCRIPTION.network, seed=3)
    network, description = load_checkpoint(saved)
    assert description == DESCRIPTION
    assert network.state_dict().keys() == original.state_dict().keys()
    for name, tensor in original.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)
    rgb, flow = torch.randn(1, 2, 3, 32, 32), torch.randn(1, 2, 8, 32, 32)
    for again, before in zip(network.eval()(rgb, flow), original.eval()(rgb, flow), strict=True):
        assert torch.equal(again, before)


OLD_NAMES = {f"skip_temporal.conv{number + 2}.": f"stage_temporal.stage{number}." for number in range(4)}


def old_name(name: str) -> str:
    """The name of a tensor in older files."""
    for now, then in OLD_NAMES.items():
        name = name.replace(now, then)
    return name


def written_before(path: Path) -> None:
    """Give a file's tensors the names of older files."""

    def rename(tensors, about):
        for name in list(tensors):
            tensors[old_name(name)] = tensors.pop(name)

    edited(path, rename)


SKIPPING = DESCRIPTION.network.model_copy(update={"temporal": TemporalConfig(injector="residual_and_skip")})


def test_older_checkpoint_with_skip_filters_is_read(tmp_path):
    path, network = tmp_path / "model.safetensors", build_network(SKIPPING, seed=3)
    save_checkpoint(path, network, replace(DESCRIPTION, network=SKIPPING))
    written_before(path)
    assert sum("stage_temporal.stage" in name for name in load_file(path)) == 2 * 4 * 2
    state = load_checkpoint(path)[0].state_dict()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_older_training_state_keeps_momentum(tmp_path):
    plan = Plan(2, 4, 4, Schedule("cosine", 0.1, 2), seed=0)
    networks = [build_network(SKIPPING, seed) for seed in (3, 4)]
    optimizers = [SGD(network.parameters(), lr=0.1, momentum=0.9) for network in networks]
    saved = [
        SavedState(
            tmp_path, network, optimizer, GradScaler("cpu", enabled=False), KeptWeights(network, plan), plan, ALONE
        )
        for network, optimizer in zip(networks, optimizers, strict=True)
    ]
    for parameter in networks[0].parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizers[0].step()
    saved[0].save(TrainingState(step=1), {})
    written_before(tmp_path / STATE_FILE)
    assert saved[1].load(Silent()).step == 1
    ours, theirs = (optimizer.state_dict()["state"] for optimizer in optimizers)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[number]["momentum_buffer"], theirs[number]["momentum_buffer"]) for number in ours)
    assert all(torch.equal(*pair) for pair in zip(*[net.parameters() for net in networks], strict=True))


def test_checkpoint_names_its_plugins_and_versions(saved):
    with safe_open(saved, framework="pt") as file:
        about = json.loads(file.metadata()["stmn"])
    needed = {(plugin["kind"], plugin["name"], plugin["package"]) for plugin in about["plugins"]}
    assert needed == {
        ("backbone", "resnet18", "stmn"),
        ("backbone", "resnet34", "stmn"),
        ("injector", "residual", "stmn"),
        ("fusion", "add", "stmn"),
    }
    assert all(plugin["version"] for plugin in about["plugins"])


def test_split_hash_ignores_the_order():
    videos = DESCRIPTION.trained_on.videos
    lists = [TrainedOn(data="mine", split="1", videos=v) for v in (videos, videos[::-1], videos[:1])]
    assert lists[0].split_hash == lists[1].split_hash != lists[2].split_hash


def test_older_file_without_a_validation_list_is_read(saved):
    def edit(tensors, about):
        del about["trained_on"]["held_out"], about["trained_on"]["contents"]

    _, description = load_checkpoint(edited(saved, edit))
    assert description.trained_on.held_out is None
    assert description.trained_on.videos == DESCRIPTION.trained_on.videos


def test_missing_file_and_folder_are_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "nothing.safetensors")
    refusal(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.99], ids=str)
def test_truncated_file_is_refused(saved, keep):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: round(keep * len(whole)) if isinstance(keep, float) else keep])
    assert "is damaged" in refusal(saved)


def test_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    assert "not one that stmn wrote" in refusal(path)
    path.write_bytes(b"\x89PNG\r\n" + bytes(1000))
    assert "is damaged" in refusal(path)


def set_in(*place, to):
    """An edit that sets one value in the description."""

    def edit(tensors, about):
        for key in place[:-1]:
            about = about[key]
        about[place[-1]] = to

    return edit


EDITS = {
    "a tensor taken away": lambda tensors, about: tensors.__delitem__("streams.motion.fc.bias"),
    "a tensor too many": lambda tensors, about: tensors.update(extra=torch.zeros(2)),
    "a tensor of another shape": lambda tensors, about: tensors.update({"streams.motion.fc.bias": torch.zeros(9)}),
    "a class fewer": set_in("network", "classes", to=["wave", "jump"]),
    "no classes": set_in("network", "classes", to=[]),
    "another architecture": set_in("network", "streams", 1, "arch", to="resnet18"),
    "a negative size": set_in("network", "size", to=-32),
    "no stack": set_in("network", "stack_length", to=0),
    "no streams": set_in("network", "streams", to=[]),
    "a width of nothing": set_in("network", "streams", 0, "width", to=0),
    "an unknown key": set_in("network", "surprise", to=1),
    "a network of the wrong kind": set_in("network", to=None),
    "no preparation": lambda tensors, about: about.__delitem__("preparation"),
    "preparation of the wrong kind": set_in("preparation", to="tvl1"),
    "keeps of the wrong kind": set_in("keeps", to=5),
    "scores instead": lambda tensors, about: {"scores": {}},
    "a list": lambda tensors, about: [1, 2],
    "a number": lambda tensors, about: 5,
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edited_file_is_refused(saved, edit):
    refusal(edited(saved, edit))


def test_unknown_plugin_or_architecture_is_named(saved):
    content = saved.read_bytes()
    edited(saved, set_in("network", "gate", "fusion", to="multiplied"))
    assert "unknown fusion 'multiplied' (did you mean 'multiply'?)" in refusal(saved, PluginError)
    saved.write_bytes(content)
    edited(saved, set_in("network", "streams", 0, "arch", to="resnet19"))
    assert "unknown architecture 'resnet19'" in refusal(saved, UsageError)


def test_failed_write_keeps_the_old_checkpoint(saved):
    before = saved.read_bytes()
    network = build_network(DESCRIPTION.network).to("meta")  # without values, so it can't be written
    with pytest.raises(NotImplementedError, match="meta tensor"):
        save_checkpoint(saved, network, DESCRIPTION)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize(
    "write", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb, 2))], ids=["torch", "pickle"]
)
def test_pickle_with_code_is_refused_and_not_executed(name, write, tmp_path):
    path, proof = tmp_path / name, tmp_path / "executed"
    write({"conv1.weight": Bomb(proof)}, path)
    backbone = create_backbone("resnet18", in_channels=3, width=0.125)
    with pytest.raises(CheckpointError, match=re.escape(str(path))) as error:
        load_weights(backbone, str(path), "resnet18")
    assert "\n" not in str(error.value)
    refusal(path)
    assert not proof.exists()


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {"conv1.weight": 5}, {"state_dict": None}], ids=repr)
def test_pickle_of_something_else_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="not a state dict"):
        load_weights(create_backbone("resnet18", 3, 0.125), str(tmp_path / "weights.pth"), "resnet18")


def test_damaged_weights_file_is_refused_in_one_line(tmp_path):
    torch.save(create_backbone("resnet18", 3, 0.125).state_dict(), tmp_path / "weights.pth")
    whole = (tmp_path / "weights.pth").read_bytes()
    (tmp_path / "weights.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"weights\.pth: ") as error:
        load_weights(create_backbone("resnet18", 3, 0.125), str(tmp_path / "weights.pth"), "resnet18")
    assert "\n" not in str(error.value)


def test_missing_imagenet_weights_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert resolve_weights("auto", "resnet50") == "none"
    for attempt in (
        lambda: resolve_weights("imagenet", "resnet50"),
        lambda: load_weights(create_backbone("resnet50", 3, 0.125), "imagenet", "resnet50"),
    ):
        with pytest.raises(CheckpointError, match="stmn weights resnet50") as error:
            attempt()
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"no such weights file; use an existing file, none, imagenet or auto"):
        resolve_weights("./imagnet", "resnet50")
