"""A stream is timm's ResNet opened up: timm's weights go in unchanged and timm's numbers come out."""

import pytest
import timm
import torch
from helpers.networks import randomize_norms
from safetensors.torch import save_file

from stmn.errors import CheckpointError, UsageError
from stmn.nets.backbones import Backbone, create_backbone, replicate_filters
from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig
from stmn.nets.single_stream import SingleStream
from stmn.nets.weights.pretrained import load_weights

CLASSES = [f"class{number}" for number in range(7)]


def single(arch: str, modality: str = "rgb", size: int = 224, width: float = 1.0) -> SingleStream:
    stream = StreamConfig(modality=modality, arch=arch, width=width)
    return build_network(NetworkConfig(classes=CLASSES, size=size, stack_length=10, streams=[stream])).eval()


def features(backbone: Backbone, x: torch.Tensor) -> torch.Tensor:
    """The last feature map, unit by unit."""
    x = backbone.stem(x)
    for units in backbone.parts.values():
        for unit in units:
            x = unit.activate(unit.join(unit.shortcut(x), unit.residual(x, chunks=1)))
    return x


@pytest.mark.parametrize("arch", ["resnet18", "resnet26", "resnet50"])
@torch.inference_mode()
def test_timm_state_dict_gives_timms_features_and_logits(arch):
    theirs = randomize_norms(timm.create_model(arch, num_classes=len(CLASSES)))
    network = single(arch)
    stream = network.stream("appearance")
    state = theirs.state_dict()
    classifier = {name: state.pop(f"fc.{name}") for name in ("weight", "bias")}
    stream.backbone.load_state_dict(state)  # strict: the same names, all of them
    stream.fc.load_state_dict(classifier)

    frames = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    assert torch.equal(features(stream.backbone, frames), theirs.forward_features(frames))
    (logits,) = network(frames[:, None])
    assert torch.equal(logits, theirs(frames))


@pytest.mark.parametrize("arch", ["resnet26", "resnet26d", "resnetblur18", "seresnet50", "resnet50_gn"])
@torch.inference_mode()
def test_any_resnet_of_timm_works_by_name(arch):
    theirs = randomize_norms(timm.create_model(arch, num_classes=0))
    backbone = create_backbone(arch, in_channels=3).eval()
    backbone.load_state_dict(theirs.state_dict())
    frames = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    last = features(backbone, frames)
    assert torch.equal(last, theirs.forward_features(frames))
    assert list(backbone.channels.values()) == [info["num_chs"] for info in theirs.feature_info[1:]]
    assert backbone.num_features == backbone.channels["conv5"] == last.shape[1]
    assert frames.shape[-1] == last.shape[-1] * backbone.stride


def test_an_unknown_architecture_names_the_near_match():
    with pytest.raises(UsageError, match=r"'resnte50' \(did you mean 'resnet50'\?\)"):
        create_backbone("resnte50", in_channels=3)
    with pytest.raises(UsageError, match=r"unknown architecture 'vgg16'.*any ResNet of timm"):
        create_backbone("vgg16", in_channels=3)


def test_width_scales_channels_of_the_four_parts():
    assert list(create_backbone("resnet18", 3, width=0.5).channels.values()) == [32, 64, 128, 256]
    assert list(create_backbone("resnet50", 20, width=0.25).channels.values()) == [64, 128, 256, 512]
    narrow = create_backbone("resnet18", 3, width=0.25)
    assert narrow.stem(torch.zeros(1, 3, 32, 32)).shape == (1, 64, 8, 8)  # the stem keeps its width
    assert single("resnet18", size=32, width=0.25)(torch.zeros(2, 1, 3, 32, 32))[0].shape == (2, 7)


def test_caffe_layout_places_strides_and_padding():
    backbone = create_backbone("resnet50", 3, width=0.125, layout="caffe")
    for part, units in backbone.parts.items():
        strides = [(unit.conv1.stride, unit.conv2.stride) for unit in units]
        first = ((1, 1) if part == "conv2" else (2, 2), (1, 1))
        assert strides == [first] + [((1, 1), (1, 1))] * (len(units) - 1)
    rows = torch.arange(7.0).expand(1, 1, 7, 7)
    assert backbone.maxpool(rows)[0, 0, 0].tolist() == [2, 4, 6]  # torchvision's: 1, 3, 5, 6
    assert backbone.maxpool(rows[..., :6])[0, 0, 0].tolist() == [2, 4, 5]


def test_caffe_layout_needs_bottlenecks_in_both_streams():
    for arch in ("resnet18", "resnet50d"):
        with pytest.raises(UsageError, match=rf"{arch} is not built like the ResNets of Caffe"):
            create_backbone(arch, 3, layout="caffe")
    streams = [
        StreamConfig(modality=modality, arch="resnet50", width=0.125, layout=layout)
        for modality, layout in (("rgb", "torchvision"), ("flow", "caffe"))
    ]
    with pytest.raises(UsageError, match=r"torchvision's layout can't be tied to a motion stream with caffe's"):
        build_network(NetworkConfig(classes=CLASSES, size=64, stack_length=10, streams=streams, gate=GateConfig()))


def test_motion_conv1_repeats_the_mean_over_rgb():
    rgb = torch.randn(64, 3, 7, 7)
    filters = replicate_filters(rgb, 20)
    assert filters.shape == (64, 20, 7, 7)
    for channel in range(20):
        torch.testing.assert_close(filters[:, channel], (rgb[:, 0] + rgb[:, 1] + rgb[:, 2]) / 3)


@pytest.mark.parametrize("arch", ["resnet18", "resnet18d"])  # the first layer is conv1, or the first of three in conv1
def test_weights_file_fills_motion_stream_except_conv1(arch, tmp_path):
    imagenet = timm.create_model(arch)
    save_file(imagenet.state_dict(), tmp_path / "weights.safetensors")
    backbone = create_backbone(arch, in_channels=20)
    load_weights(backbone, str(tmp_path / "weights.safetensors"), arch)
    first, *others = imagenet.state_dict()
    filled = backbone.state_dict()
    assert torch.equal(filled[first], replicate_filters(imagenet.state_dict()[first], 20))
    assert all(torch.equal(filled[name], imagenet.state_dict()[name]) for name in others if not name.startswith("fc."))


def test_old_torchvision_file_without_batch_counters_is_read(tmp_path):
    state = timm.create_model("resnet18").state_dict()
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, tmp_path / "old.pth")
    backbone = create_backbone("resnet18", in_channels=3)
    load_weights(backbone, str(tmp_path / "old.pth"), "resnet18")
    assert torch.equal(backbone.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


@pytest.mark.parametrize("other", ["resnet34", "resnet50"])
def test_weights_of_another_architecture_are_refused(other, tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model(other).state_dict(), file)
    backbone = create_backbone("resnet18", in_channels=3)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: not the weights of resnet18: "):
        load_weights(backbone, str(file), "resnet18")
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@torch.inference_mode()
def test_chunks_are_averaged_and_videos_stay_apart():
    network = randomize_norms(single("resnet18", size=32, width=0.25))
    frames = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    (together,) = network(frames)
    for video in range(2):
        (alone,) = network(frames[video : video + 1])
        torch.testing.assert_close(together[video : video + 1], alone)
    singles = torch.stack([network(frames[:, t : t + 1])[0] for t in range(3)])
    torch.testing.assert_close(together, singles.mean(dim=0))  # the classifier is linear


def test_random_weights_depend_on_the_seed_alone():
    stream = StreamConfig(modality="rgb", arch="resnet18", width=0.25)
    config = NetworkConfig(classes=CLASSES, size=32, stack_length=10, streams=[stream])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (build_network(config, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["streams.appearance.fc.weight"], other["streams.appearance.fc.weight"])
