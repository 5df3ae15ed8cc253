"""Where a stream starts from: files of timm and torchvision, timm's hub, and a new classifier."""

import json
import os
import socket
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from helpers.commands import call, errors_of
from helpers.networks import randomize_norms
from safetensors.torch import load_file, save_file

from stmn.errors import CheckpointError
from stmn.nets.backbones import Backbone, create_backbone
from stmn.nets.build import build_network
from stmn.nets.checkpoint import load_checkpoint
from stmn.nets.config import NetworkConfig, StreamConfig
from stmn.nets.weights.pretrained import find_hub_name, load_weights, resolve_weights

FRAMES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
TRAIN = [
    "train-stream", "--arch", "resnet18", "--size", 32, "--batch", 4, "--micro-batch", 4, "--steps", 1,
    "--validation", 0, "--schedule", "cosine", "--lr", 1e-12,
]  # fmt: skip


def started(weights: object, arch: str, channels: int = 3) -> Backbone:
    backbone = create_backbone(arch, channels).eval()
    load_weights(backbone, str(weights), arch)
    return backbone


@torch.inference_mode()
def features(backbone: Backbone) -> torch.Tensor:
    """The last feature map, unit by unit."""
    x = backbone.stem(FRAMES)
    for units in backbone.parts.values():
        for unit in units:
            x = unit.activate(unit.join(unit.shortcut(x), unit.residual(x, chunks=1)))
    return x


def saved(state: dict[str, torch.Tensor], path: Path) -> Path:
    """Save a state dict as its authors do: timm for `.safetensors`, torch for anything else."""
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("arch", ["resnet18", "resnet26", "resnet50"])
@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_timm_file_gives_timms_features_to_the_bit(arch, name, tmp_path):
    theirs = randomize_norms(timm.create_model(arch))
    with torch.inference_mode():
        expected = theirs.forward_features(FRAMES)
    assert torch.equal(features(started(saved(theirs.state_dict(), tmp_path / name), arch)), expected)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnet101"])
@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_torchvision_file_gives_its_features_to_the_bit(arch, name, tmp_path):
    theirs = randomize_norms(getattr(torchvision.models, arch)(weights=None))
    body = torch.nn.Sequential(*list(theirs.children())[:-2])  # without pooling and classifier
    with torch.inference_mode():
        expected = body(FRAMES)
    assert torch.equal(features(started(saved(theirs.state_dict(), tmp_path / name), arch)), expected)


def test_wrapped_state_dict_is_read(tmp_path):
    state = timm.create_model("resnet18").state_dict()
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "checkpoint.pth.tar")
    assert torch.equal(
        started(tmp_path / "checkpoint.pth.tar", "resnet18").layer4[1].conv2.weight, state["layer4.1.conv2.weight"]
    )


def test_conv1_is_repeated_from_three_channels_only(tmp_path):
    state = timm.create_model("resnet18", in_chans=20).state_dict()  # a motion stream's
    path = saved(state, tmp_path / "flow.safetensors")
    assert torch.equal(started(path, "resnet18", channels=20).conv1.weight, state["conv1.weight"])
    for channels in (3, 10):
        with pytest.raises(CheckpointError, match=f"conv1.weight is 64 x 20 x 7 x 7, not 64 x {channels} x 7 x 7"):
            started(path, "resnet18", channels=channels)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_nan_or_infinite_are_refused(number, tmp_path):
    state = timm.create_model("resnet18").state_dict()
    state["layer2.0.bn1.weight"][3] = number
    with pytest.raises(CheckpointError, match=r"layer2\.0\.bn1\.weight has NaN or infinite values"):
        started(saved(state, tmp_path / "model.pth"), "resnet18")


def test_classifier_starts_near_zero_with_dropout_before_it():
    classes = [f"class{number}" for number in range(101)]
    stream = StreamConfig(modality="flow", arch="resnet18", dropout=0.8)
    network = build_network(NetworkConfig(classes=classes, size=64, stack_length=10, streams=[stream]), seed=3)
    fc = network.stream("motion").fc
    assert fc.weight.shape == (101, 512) and not fc.bias.any()
    assert abs(fc.weight.mean()) < 2e-4 and abs(fc.weight.std() - 0.01) < 2e-4
    randomize_norms(network)  # so that the features are above 0
    seen = {}
    fc.register_forward_pre_hook(lambda _, inputs: seen.update({network.training: inputs[0]}))
    flow = torch.randn(8, 1, 20, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for training in (False, True):
            network.train(training)(flow)
    zeros = {training: float((features == 0).float().mean()) for training, features in seen.items()}
    assert zeros[False] < 0.1 and abs(zeros[True] - 0.8) < 0.03


# timm's hub ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("resnet50", "timm/resnet50.tv_in1k"),  # torchvision's, pinned
        ("resnet152", "timm/resnet152.tv_in1k"),
        ("resnet50.a1_in1k", "timm/resnet50.a1_in1k"),  # the tag that is named
        ("resnet26", "timm/resnet26.bt_in1k"),  # timm's default
    ],
)
def test_hub_weights_have_a_tag(arch, name):
    assert find_hub_name(arch) == name


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("resnetblur18", "timm has no ImageNet weights for resnetblur18; use --weights none or a file"),
        ("resnet50.nonsense", r"resnet50\.nonsense: Invalid pretrained tag"),
        ("resnet18d.ra4_e3600_r224_in1k", "was trained on inputs not normalised as ImageNet's are"),
    ],
)
def test_missing_or_differently_normalised_weights_are_refused(arch, message):
    for attempt in (find_hub_name, lambda arch: resolve_weights("imagenet", arch)):
        with pytest.raises(CheckpointError, match=message):
            attempt(arch)
    assert resolve_weights("auto", arch) == "none"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub on a machine that is offline: any attempt to connect fails the test."""
    tried = []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: tried.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: tried.append(address))
    yield tmp_path / "hub"
    assert not tried


def cached(hub: Path, name: str, state: dict[str, torch.Tensor]) -> None:
    """Put weights into the cache, as a download would."""
    folder = hub / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    saved(state, folder / "snapshots" / ("0" * 40) / "model.safetensors")


def test_training_uses_cached_weights_and_stays_offline(hub, scratch):
    state = timm.create_model("resnet18").state_dict()
    cached(hub, "timm/resnet18.tv_in1k", state)
    for modality, stream, dropout in (("rgb", "appearance", 0.0), ("flow", "motion", 0.8)):
        result = call(*TRAIN, "--modality", modality, "--workspace", scratch.root)  # auto finds them
        assert result.exit_code == 0, result.stderr
        assert "resnet18: starting from the ImageNet weights timm/resnet18.tv_in1k" in result.stdout + result.stderr
        network, description = load_checkpoint(scratch.newest("model").output("model"))
        assert description.network.streams[0].dropout == dropout
        conv1 = network.stream(stream).backbone.conv1.weight
        expected = state["conv1.weight"]
        if modality == "flow":
            expected = expected.mean(dim=1, keepdim=True).expand(-1, 20, -1, -1)
        torch.testing.assert_close(conv1, expected, rtol=0, atol=1e-6)


def test_training_without_cached_weights_stays_offline(hub, scratch):
    result = call(*TRAIN, "--weights", "imagenet", "--workspace", scratch.root)
    assert result.exit_code == 1
    assert errors_of(result) == [
        "the ImageNet weights of resnet18 are not on this machine; download them with: stmn weights resnet18"
    ]
    result = call(*TRAIN, "--width", 0.125, "--workspace", scratch.root)
    assert result.exit_code == 0
    assert "starting from random weights (ImageNet weights: stmn weights resnet18)" in result.stdout + result.stderr


# bad files -----------------------------------------------------------------------------------------------------------


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def good(path: Path) -> Path:
    return saved(timm.create_model("resnet18").state_dict(), path)


def cut(path: Path) -> None:
    path.write_bytes(good(path).read_bytes()[:-1000])


def edited(path: Path) -> None:
    """The shape in the header is not that of the data."""
    content = good(path).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["conv1.weight"]["shape"][0] = 63
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def renamed(path: Path) -> None:
    state = load_file(good(path))
    state["layer9.0.conv1.weight"] = state.pop("layer4.0.conv1.weight")
    save_file(state, path)


def own_network(path: Path, wrapped: bool = False) -> None:
    """What `torch.save(network.state_dict())` writes of a network of this project."""
    state = build_network(
        NetworkConfig(
            classes=["a", "b"],
            size=32,
            stack_length=10,
            streams=[StreamConfig(modality="rgb", arch="resnet18", width=0.25)],
        )
    ).state_dict()
    torch.save({"state_dict": {f"module.{n}": v for n, v in state.items()}} if wrapped else state, path)


BAD_FILES = {
    "truncated": ("w.safetensors", cut, "not a readable state dict: "),
    "edited header": ("w.safetensors", edited, "not a readable state dict: "),
    "edited names": ("w.safetensors", renamed, "not the weights of resnet18: lacks layer4.0.conv1.weight"),
    "truncated pickle": ("w.pth", cut, "not a readable state dict: "),
    "code": ("w.pth", lambda path: torch.save({"conv1.weight": Bomb(path.with_name("made"))}, path), "contains more than weights, so it was not loaded"),
    "another depth": ("w.pth", lambda path: saved(timm.create_model("resnet34").state_dict(), path), "not the weights of resnet18: has layer1.2"),
    "another family": ("w.pth", lambda path: saved(torchvision.models.squeezenet1_1().state_dict(), path), "not the weights of resnet18: lacks conv1.weight"),
    "stmn's own": ("w.pth", own_network, "the weights of a model of stmn, without what its file says of them"),
    "stmn's own in a wrapper": ("w.pth", lambda path: own_network(path, wrapped=True), "the weights of a model of stmn"),
    "a picture": ("w.pth", lambda path: path.write_bytes(b"\x89PNG\r\n" + bytes(1000)), "not a weights file; use .safetensors, .pth (written by torch) or .mat"),
    "a text": ("notes.txt", lambda path: path.write_text("conv1"), "not a weights file; use .safetensors, .pth (written by torch) or .mat"),
    "empty": ("w.safetensors", lambda path: path.write_bytes(b""), "not a readable state dict: "),
    "nothing": ("w.pth", lambda path: None, "no such weights file; use an existing file, none, imagenet or auto"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "make", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_weights_end_the_command_before_training(name, make, message, scratch, tmp_path):
    path = tmp_path / name
    make(path)
    result = call(*TRAIN, "--weights", path, "--workspace", scratch.root)
    assert result.exit_code == (1 if "no such" in message else 2)
    (line,) = errors_of(result)
    assert line.startswith(f"{path}: {message}")
    assert "loss" not in result.stdout + result.stderr
    assert not list(scratch.runs_dir.glob("*"))
    assert not (tmp_path / "made").exists()
