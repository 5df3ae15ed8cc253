"""Weights of MatConvNet: a stream that starts from a `.mat` file computes what MatConvNet computes with it."""

import json

import numpy as np
import pytest
import torch
from helpers import mat_files
from helpers.commands import call, errors_of
from helpers.mat_files import CAFFE_MEAN, Net, resnet, write
from safetensors import safe_open

from stmn.errors import CheckpointError
from stmn.nets.backbones import Backbone, create_backbone
from stmn.nets.checkpoint import load_checkpoint
from stmn.nets.weights.pretrained import load_weights
from stmn.sampling.augment import FLOW_TO_INPUT, RGB_TO_INPUT, normalise_flow, normalise_rgb

WIDTH = 0.125
OUR_MEAN = tuple(float(mean) for mean in RGB_TO_INPUT.mean)


def levels_of(channels: int, side: int = 70) -> np.ndarray:
    """An image of levels, (H, W, channels); for 70 pixels the first map has an odd side."""
    return np.random.default_rng(5).integers(0, 256, (side, side + 8, channels)).astype(np.float64)


def started(path, channels: int = 3, arch: str = "resnet50") -> Backbone:
    """A stream's backbone, filled from a file, in float64: the only rounding is that of the file's float32."""
    backbone = create_backbone(arch, channels, WIDTH, layout="caffe").eval()
    load_weights(backbone, str(path), arch, RGB_TO_INPUT if channels == 3 else FLOW_TO_INPUT)
    return backbone.double()


@torch.inference_mode()
def ours(backbone: Backbone, levels: np.ndarray, stem_only: bool = False) -> np.ndarray:
    """What the stream computes from an image of levels, (H, W, C)."""
    picture = torch.from_numpy(levels).permute(2, 0, 1)[None]
    rgb = levels.shape[2] == 3
    x = normalise_rgb(picture) if rgb else normalise_flow(picture.unflatten(1, (-1, 2))).flatten(1, 2)
    if stem_only:
        x = backbone.act1(backbone.bn1(backbone.conv1(x)))
    else:
        x = backbone.stem(x)
        for units in backbone.parts.values():
            for unit in units:
                x = unit.activate(unit.join(unit.shortcut(x), unit.residual(x, chunks=1)))
    return x[0].permute(1, 2, 0).numpy()


def assert_equal_features(mine: np.ndarray, theirs: np.ndarray) -> None:
    assert mine.shape == theirs.shape
    assert theirs.std() > 1e-3  # not trivial
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("depth", [50, 101, 152])
@pytest.mark.parametrize("inside", [None, "net"], ids=["the model page's", "a trained one"])
def test_matconvnet_resnet_gives_matconvnets_features(depth, inside, tmp_path):
    net = resnet(depth, mean=OUR_MEAN, conv1_bias=depth == 50)
    levels = levels_of(3)
    backbone = started(write(tmp_path / "imagenet.mat", net, inside), arch=f"resnet{depth}")
    assert_equal_features(ours(backbone, levels), mat_files.features(net, levels - OUR_MEAN))


def test_authors_motion_stream_reads_twenty_channels(tmp_path):
    net = resnet(50, channels=20, mean=np.full((1, 1, 20), 128))
    levels = levels_of(20)
    backbone = started(write(tmp_path / "flow.mat", net, "net"), channels=20)
    assert_equal_features(ours(backbone, levels), mat_files.features(net, levels - 128))


@pytest.mark.parametrize("mean", [[], np.zeros((1, 2)), 128.0, CAFFE_MEAN], ids=["none", "two zeros", "one", "of RGB"])
def test_flow_without_mean_is_minus_level_128(mean, tmp_path):
    net = resnet(50, channels=20, mean=mean)
    levels = levels_of(20)
    backbone = started(write(tmp_path / "flow.mat", net), channels=20)
    assert_equal_features(ours(backbone, levels), mat_files.features(net, levels - 128))


def test_motion_stream_starts_from_imagenet(tmp_path):
    net = resnet(50)
    path = write(tmp_path / "imagenet.mat", net)
    first = net.layers["conv1"][2]
    first["conv1_filter"] = first["conv1_filter"].mean(axis=2, keepdims=True).repeat(8, axis=2)
    levels = levels_of(8)
    assert_equal_features(ours(started(path, channels=8), levels), mat_files.features(net, levels - 128))


def test_bgr_file_is_recognised_by_its_mean(tmp_path):
    net = resnet(50, mean=OUR_MEAN[::-1])  # blue is the smallest, and comes first
    levels = levels_of(3)
    theirs = mat_files.features(net, levels[..., ::-1] - OUR_MEAN[::-1])
    assert_equal_features(ours(started(write(tmp_path / "bgr.mat", net)), levels), theirs)


def test_mean_picture_is_reduced_to_its_mean_colour(tmp_path):
    picture = np.broadcast_to(np.float32(OUR_MEAN), (6, 4, 3)) + np.random.default_rng(1).normal(size=(6, 4, 3))
    picture += OUR_MEAN - picture.mean(axis=(0, 1))
    net = resnet(50, mean=picture)
    levels = levels_of(3)
    backbone = started(write(tmp_path / "imagenet.mat", net))
    assert_equal_features(ours(backbone, levels), mat_files.features(net, levels - OUR_MEAN))


def test_another_mean_is_exact_except_at_the_border(tmp_path):
    mean = np.array([140.0, 100.0, 90.0])  # further from ours than any file's, so that it shows
    net = resnet(50, mean=mean)
    levels = levels_of(3)
    backbone = started(write(tmp_path / "imagenet.mat", net))
    mine, theirs = ours(backbone, levels, stem_only=True), mat_files.features(net, levels - mean, stem_only=True)
    inside = (slice(2, -1),) * 2  # conv1 reaches three pixels over the border, its stride is two
    assert_equal_features(mine[inside], theirs[inside])
    assert np.abs(mine - theirs).max() > 1e-3 * theirs.max()
    # what MatConvNet would compute if our mean surrounded the image instead of its own
    border = np.array(OUR_MEAN) - mean
    assert_equal_features(ours(backbone, levels), mat_files.features(net, levels - mean, border))


def test_separate_scale_layers_are_folded_in(tmp_path):
    net = resnet(50, mean=OUR_MEAN)
    rng = np.random.default_rng(3)
    for name in ("_conv1", "2a_branch1", "4c_branch2b"):
        channels = len(net.layers[f"bn{name}"][2][f"bn{name}_mult"])
        values = {f"scale{name}_{what}": rng.uniform(0.5, 1.5, (1, 1, channels)) for what in ("mult", "bias")}
        net.layers[f"scale{name}"] = ["dagnn.Scale", {"hasBias": True}, values]
    levels = levels_of(3)
    backbone = started(write(tmp_path / "imagenet.mat", net))
    assert_equal_features(ours(backbone, levels), mat_files.features(net, levels - OUR_MEAN))


def test_normalisation_parameters_are_converted(tmp_path):
    net = resnet(50)
    backbone = started(write(tmp_path / "imagenet.mat", net))
    mult, bias, moments = net.layers["bn4d_branch2b"][2].values()
    bn = backbone.layer3[3].bn2
    np.testing.assert_allclose(bn.weight.detach().numpy(), mult.ravel(), rtol=1e-6)
    np.testing.assert_allclose(bn.bias.detach().numpy(), bias.ravel(), rtol=1e-6)
    np.testing.assert_allclose(bn.running_mean.numpy(), moments[:, 0], rtol=1e-6)
    np.testing.assert_allclose(bn.running_var.numpy(), moments[:, 1].astype(float) ** 2 - 1e-5, rtol=1e-6)


def test_deviation_below_our_epsilon_divides_as_before(tmp_path):
    net = resnet(50, mean=OUR_MEAN)
    net.layers["bn2a_branch2a"][2]["bn2a_branch2a_moments"][:3, 1] = 1e-3  # squared: a tenth of 1e-5
    levels = levels_of(3)
    backbone = started(write(tmp_path / "imagenet.mat", net))
    assert_equal_features(ours(backbone, levels), mat_files.features(net, levels - OUR_MEAN))
    assert all((buffer >= 0).all() for name, buffer in backbone.named_buffers() if name.endswith("running_var"))


def test_parameters_are_found_through_their_layers(tmp_path):
    net = resnet(50, mean=OUR_MEAN)
    for number, layer in enumerate(net.layers.values()):
        layer[2] = {f"p{number}_{index}": value for index, value in enumerate(layer[2].values())}
    levels = levels_of(3)
    backbone = started(write(tmp_path / "imagenet.mat", net))
    assert_equal_features(ours(backbone, levels), mat_files.features(net, levels - OUR_MEAN))


def change(layer: str, what: str, value: object):
    """An edit that changes a setting of a layer."""

    def edit(net: Net) -> None:
        net.layers[layer][1][what] = value

    return edit


def parameter(layer: str, value):
    """An edit that changes the last parameter of a layer."""

    def edit(net: Net) -> None:
        params = net.layers[layer][2]
        name = list(params)[-1]
        params[name] = value(params[name])

    return edit


def renamed(net: Net) -> None:
    net.layers = {f"{name}_spatial": layer for name, layer in net.layers.items()}


EDITS = {
    "the stride in the 3x3": (
        change("res3a_branch2b", "stride", [2, 2]),
        "res3a_branch2b has stride 2 2, but .* 1: a different network",
    ),
    "the stride not in the 1x1": (
        change("res3a_branch2a", "stride", 1),
        "res3a_branch2a has stride 1, but .* 2: a different network",
    ),
    "pool1 padded all around": (change("pool1", "pad", [1, 1, 1, 1]), "pool1 has pad 1 1 1 1, but .* 0 1 0 1"),
    "dilated": (change("res5b_branch2b", "dilate", 2), "res5b_branch2b has dilate 2"),
    "two streams": (renamed, "no layer has a name like res2a_branch2a"),
    "no conv1": (lambda net: net.layers.pop("conv1"), r"lacks conv1 \(Conv\)"),
    "no normalisation": (lambda net: net.layers.pop("bn3b_branch2c"), r"lacks bn3b_branch2c \(BatchNorm\)"),
    "moments cut": (parameter("bn3b_branch2c", lambda m: m[:, :1]), "bn3b_branch2c lacks .* 64 x 2 moments"),
    "variances for sigmas": (parameter("bn3b_branch2c", lambda m: -m), "bn3b_branch2c: .* must be positive"),
    "text for numbers": (
        parameter("bn3b_branch2c", lambda _: "moments"),
        "parameters of bn3b_branch2c are not numbers",
    ),
    "not a number": (
        parameter("res4f_branch2b", lambda f: f * np.nan),
        "layer3.5.conv2.weight has NaN or infinite values",
    ),
}


@pytest.mark.parametrize(("edit", "message"), EDITS.values(), ids=EDITS.keys())
def test_network_that_is_not_caffes_resnet_is_refused(edit, message, tmp_path):
    net = resnet(50)
    edit(net)
    path = write(tmp_path / "other.mat", net)
    backbone = create_backbone("resnet50", 3, WIDTH, layout="caffe")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as error:
        load_weights(backbone, str(path), "resnet50", RGB_TO_INPUT)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("channels", "stream", "message"),
    [
        (20, 3, "conv1 reads 20 channels, and this stream has 3"),
        (20, 10, "conv1 reads 20 channels, and this stream has 10"),
    ],
)
def test_other_number_of_input_channels_is_refused(channels, stream, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        started(write(tmp_path / "flow.mat", resnet(50, channels, np.full(20, 128.0))), channels=stream)


@pytest.mark.parametrize(
    ("file", "arch", "what"), [(50, "resnet101", "lacks layer3.6"), (101, "resnet50", "has layer3.6")]
)
def test_another_depth_is_refused(file, arch, what, tmp_path):
    with pytest.raises(CheckpointError, match=rf"not the weights of {arch}: {what}"):
        started(write(tmp_path / "other.mat", resnet(file)), arch=arch)


TRAIN = [
    "train-stream", "--arch", "resnet50", "--width", WIDTH, "--size", 32, "--batch", 4, "--micro-batch", 4, "--steps", 1,
    "--validation", 0, "--schedule", "cosine",
]  # fmt: skip


def test_model_remembers_the_layout_of_its_mat_file(scratch, tmp_path):
    write(tmp_path / "flow.mat", resnet(50, 20, np.full((1, 1, 20), 128)), "net")
    options = ["--modality", "flow", "--weights", tmp_path / "flow.mat", "--lr", 1e-12, "--workspace", scratch.root]
    result = call(*TRAIN, *options)
    assert result.exit_code == 0, result.stderr
    assert f"resnet50: starting from {tmp_path / 'flow.mat'}" in result.stdout + result.stderr
    model = scratch.newest("model").output("model")
    network, description = load_checkpoint(model)
    assert description.network.streams[0].layout == "caffe"
    backbone = network.stream("motion").backbone
    assert backbone.layer2[0].conv1.stride == (2, 2) and backbone.layer2[0].conv2.stride == (1, 1)
    assert backbone.maxpool.ceil_mode and backbone.maxpool.padding == 0
    expected = started(tmp_path / "flow.mat", channels=20).float().layer3[2].conv2.weight
    torch.testing.assert_close(backbone.layer3[2].conv2.weight, expected, rtol=0, atol=1e-6)
    with safe_open(model, framework="pt") as file:
        assert json.loads(file.metadata()["stmn"])["network"]["streams"][0]["layout"] == "caffe"

    write(tmp_path / "flow.mat", resnet(50, 20, np.full((1, 1, 20), 128), seed=1), "net")
    assert call(*TRAIN, *options).exit_code == 0
    assert scratch.newest("model").output("model") != model  # another file is another training run


def simple_nn(path):
    mat_files.savemat(
        path, {"layers": mat_files.cell([{"type": "conv", "weights": mat_files.cell([np.ones((3, 3))])}])}
    )


def truncated(path):
    path.write_bytes(write(path, resnet(50)).read_bytes()[:-5000])


def version_73(path):
    path.write_bytes(
        b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(600)
    )


def one_byte(path):
    """This size makes SciPy read beyond its memory, which ends its process."""
    mat_files.savemat(path, {"layers": np.ones((3, 3)), "params": np.ones(4)})
    content = bytearray(path.read_bytes())
    content[128 + 56] = 255
    path.write_bytes(content)


BAD_FILES = {
    "a byte wrong": (one_byte, "not a MATLAB file, or damaged"),
    "truncated": (truncated, "not a MATLAB file, or damaged"),
    "version 7.3": (
        version_73,
        "MATLAB files of version 7.3 can't be read; in MATLAB, load it and save it with '-v7'",
    ),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n" + bytes(1000)), "not a MATLAB file, or damaged"),
    "empty": (lambda path: path.write_bytes(b""), "not a MATLAB file, or damaged"),
    "masks": (
        lambda path: mat_files.savemat(path, {"mask": np.ones((3, 3))}),
        "not a MatConvNet network: it has no layers",
    ),
    "an object": (
        lambda path: mat_files.savemat(path, {"net": np.ones((3, 3))}),
        "its 'net' is not a plain struct; in MATLAB: net = net.saveobj(); save('FILE.mat', 'net', '-v7')",
    ),
    "SimpleNN": (simple_nn, "not a MatConvNet DagNN network (its ResNets are DagNN, not SimpleNN)"),
    "another depth": (lambda path: write(path, resnet(101)), "not the weights of resnet50: has layer3.6.conv1.weight"),
}


@pytest.mark.parametrize(("make", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_mat_file_ends_the_command_before_training(make, message, scratch, tmp_path):
    path = tmp_path / "bad.mat"
    make(path)
    result = call(*TRAIN, "--weights", path, "--workspace", scratch.root)
    assert result.exit_code == 2
    assert errors_of(result) == [f"{path}: {message}"]
    assert scratch.newest("model") is None


def test_damaged_mat_file_always_ends_in_one_line(tmp_path):
    whole = write(tmp_path / "whole.mat", resnet(50)).read_bytes()
    backbone = create_backbone("resnet50", 3, WIDTH, layout="caffe")
    rng = np.random.default_rng(2)
    for _ in range(20):
        damaged = bytearray(whole[: int(rng.integers(len(whole)))])
        for place in rng.integers(0, len(damaged), 5) if damaged else []:
            damaged[place] = rng.integers(256)
        (tmp_path / "bad.mat").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"bad\.mat: ") as error:
            load_weights(backbone, str(tmp_path / "bad.mat"), "resnet50", RGB_TO_INPUT)
        assert "\n" not in str(error.value)
