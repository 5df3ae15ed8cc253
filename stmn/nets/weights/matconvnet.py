"""The ResNets of MatConvNet's model page, and what was trained from them, as state dicts of timm.

Those networks came from Caffe: `imagenet-resnet-{50,101,152}-dag.mat`, and the two-stream authors' base streams. They
compute what timm's ResNets compute, but for where strides and padding sit (`stmn.nets.backbones.lay_out_as_caffe`),
what a normalisation keeps, and what they take for an input: levels 0..255 minus a mean.
`docs/reference/weights.md` has the facts.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmn.errors import CheckpointError
from stmn.nets.weights.matlab import Array, DagNN, Layer, read_dagnn

Floats = NDArray[np.float64]

#: of torch's and timm's normalisation; a normalisation of MatConvNet keeps sqrt(variance + its own)
EPSILON = 1e-5
#: what the authors take from the levels of flow
FLOW_MEAN = 128.0
#: res4b22_branch2a: of stage 4 the unit b22 (they are a, b1, b2, ..., or a, b, c, ... in a ResNet-50), its first 1x1
CONVOLUTION = re.compile(r"res([2-5])([a-z])(\d*)_branch(1|2[abc])")
#: branch -> the convolution and the normalisation of timm's unit
PLACES = {"1": ("downsample.0", "downsample.1")} | {f"2{c}": (f"conv{i}", f"bn{i}") for i, c in enumerate("abc", 1)}
#: the first pooling of Caffe's ResNets
POOL1 = {"poolSize": (3,), "stride": (2,), "pad": (0, 1, 0, 1)}


class InputLevels(Protocol):
    """How a stream's input is made of levels 0..255: (level - mean) * scale, for each channel of a frame or a field."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class Normalised:
    """A convolution (O, I, h, w) without bias and the normalisation behind it, in test mode, all float64.

    y = gain * (conv(x) - mean) / sigma + offset.
    """

    filters: Floats
    gain: Floats
    offset: Floats
    mean: Floats
    sigma: Floats

    def state(self, convolution: str, normalisation: str) -> Iterator[tuple[str, Tensor]]:
        """The tensors of timm, float32, named after two modules."""
        variance = np.maximum(self.sigma**2 - EPSILON, 0)
        # 1, but for a sigma that only a smaller epsilon allows
        gain = self.gain * np.sqrt(variance + EPSILON) / self.sigma
        yield f"{convolution}.weight", tensor(self.filters)
        yield f"{normalisation}.weight", tensor(gain)
        yield f"{normalisation}.bias", tensor(self.offset)
        yield f"{normalisation}.running_mean", tensor(self.mean)
        yield f"{normalisation}.running_var", tensor(variance)


def read_matconvnet(path: Path, in_channels: int, levels: InputLevels) -> dict[str, Tensor]:
    """The state dict of timm of a file's ResNet, without classifier, for a stream of `in_channels` input channels.

    Outputs are the file's own on the same levels, to float32, but where conv1 reaches over the border: what is zero
    there is a level, and each network has its own (`docs/reference/weights.md` has the size of it). A stream of flow
    reads a file of 3 channels through the mean of these.

    Raises `CheckpointError` when the file can't be read, holds no ResNet of Caffe, or has other input channels.
    """
    net = read_dagnn(path)
    try:
        units = places(net)
        check_layout(net, units)
        state = dict(fold_input(net, in_channels, levels).state("conv1", "bn1"))
        for convolution, (unit, branch) in units.items():
            conv, bn = (f"{unit}.{part}" for part in PLACES[branch])
            state |= dict(normalised(net, convolution, convolution.replace("res", "", 1)).state(conv, bn))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return state


def places(net: DagNN) -> dict[str, tuple[str, str]]:
    """The convolutions of the residual units: layer name -> (timm's unit, branch)."""
    found = {name: match for name in net.layers if (match := CONVOLUTION.fullmatch(name))}
    if not found:
        raise CheckpointError("holds no ResNet as imported from Caffe: no layer has a name like res2a_branch2a")
    units: dict[str, list[tuple[str, int]]] = {}
    for match in found.values():
        unit = (match[2], int(match[3] or 0))
        if unit not in units.setdefault(match[1], []):
            units[match[1]].append(unit)
    named = {}
    for name, match in found.items():
        index = sorted(units[match[1]]).index((match[2], int(match[3] or 0)))
        named[name] = (f"layer{int(match[1]) - 1}.{index}", match[4])
    return named


def layer_of(net: DagNN, name: str, kind: str = "Conv") -> Layer:
    """A layer that must be there."""
    layer = net.layers.get(name)
    if layer is None or layer.kind != kind:
        raise CheckpointError(f"holds no ResNet as imported from Caffe: lacks {name} ({kind})")
    return layer


def normalised(net: DagNN, convolution: str, name: str) -> Normalised:
    """A convolution with its normalisation bn`name`, and the scale`name` that some imports keep apart."""
    layer, moments_of = layer_of(net, convolution), layer_of(net, f"bn{name}", "BatchNorm")
    if len(layer.params) not in (1, 2) or layer.params[0].ndim > 4:
        raise CheckpointError(f"{layer.name} is no convolution with filters and at most a bias")
    shape = (*layer.params[0].shape, 1, 1)[:4]  # MATLAB drops ones at the end
    filters = np.transpose(layer.params[0].reshape(shape), (3, 2, 0, 1)).astype(np.float64)
    channels = len(filters)
    if len(moments_of.params) != 3 or moments_of.params[2].shape != (channels, 2):
        raise CheckpointError(f"bn{name} lacks multipliers, biases or {channels} x 2 moments")
    gain, offset = (vector(value, channels, f"bn{name}") for value in moments_of.params[:2])
    mean, sigma = moments_of.params[2].astype(np.float64).T
    if not (sigma > 0).all():
        raise CheckpointError(f"bn{name}: the second column of its moments is no deviation: not above 0")
    if len(layer.params) == 2:
        mean = mean - vector(layer.params[1], channels, layer.name)
    if f"scale{name}" in net.layers:
        scale, *shift = (vector(v, channels, f"scale{name}") for v in layer_of(net, f"scale{name}", "Scale").params)
        gain, offset = gain * scale, offset * scale + sum(shift)
    return Normalised(filters, gain, offset, mean, sigma)


def fold_input(net: DagNN, in_channels: int, levels: InputLevels) -> Normalised:
    """conv1 for inputs as this program makes them.

    With theirs = level - theirs.mean and ours = (level - ours.mean) * ours.scale, theirs = ours / ours.scale + d where
    d = ours.mean - theirs.mean. So filters are divided by our scale, and the filters' sum over d, which every place of
    the map has that does not reach over the border, moves into the mean behind it.
    """
    conv1 = normalised(net, "conv1", "_conv1")
    filters, theirs = conv1.filters, conv1.filters.shape[1]
    mean: Floats = np.full(in_channels, FLOW_MEAN)
    if in_channels != 3 and theirs == 3:
        filters = filters.mean(axis=1, keepdims=True).repeat(in_channels, axis=1)
    elif in_channels != theirs:
        raise CheckpointError(f"conv1 reads {theirs} channels, and this stream has {in_channels}")
    else:
        known = average(net.average_image, in_channels)
        if known is not None:
            mean = known
        elif in_channels == 3:
            mean = levels.mean.astype(np.float64)
        if in_channels == 3 and mean[0] < mean[2]:
            # ImageNet's blue has a mean of 104 and its red of 124: the file is as Caffe has it, BGR
            filters, mean = filters[:, ::-1], mean[::-1]
    ours, scale = (np.tile(v.astype(np.float64), in_channels // len(v)) for v in (levels.mean, levels.scale))
    everywhere = np.einsum("oihw,i->o", filters, ours - mean)
    filters = filters / scale[:, None, None]
    return Normalised(filters, conv1.gain, conv1.offset, conv1.mean - everywhere, conv1.sigma)


def average(image: Array | None, channels: int) -> Floats | None:
    """The mean level of each channel, from an image, a value per channel, or one value; None if there is none."""
    if image is None or image.dtype.kind == "O" or not np.isfinite(image).all():
        return None
    image = image.astype(np.float64)
    if image.ndim == 3 and image.shape[2] == channels:
        mean: Floats = image.mean(axis=(0, 1))
        return mean
    if image.size in (1, channels):
        return np.broadcast_to(image.ravel(), channels)
    return None  # an image of other channels, or what the importer writes for none


def check_layout(net: DagNN, units: dict[str, tuple[str, str]]) -> None:
    """Raise `CheckpointError` when a stride or a padding is not where Caffe's ResNets have it."""
    wanted: dict[str, dict[str, tuple[int, ...]]] = {"conv1": {"stride": (2,), "pad": (3,)}, "pool1": POOL1}
    for name, (unit, branch) in units.items():
        strided = unit.endswith(".0") and not unit.startswith("layer1") and branch in ("1", "2a")
        wanted[name] = {"stride": (1 + strided,), "pad": (int(branch == "2b"),), "dilate": (1,)}
    for name, settings in wanted.items():
        block = net.layers[name].block if name in net.layers else {}
        for key, value in settings.items():
            given = np.ravel(block.get(key, ()))  # top, bottom, left, right; or height, width; or one for all
            if given.size and not np.array_equal(np.resize(given, 4), np.resize(value, 4)):
                raise CheckpointError(
                    f"{name} has {key} {shown(given)}, and in the ResNets of Caffe {shown(value)}: another network"
                )


def shown(numbers: Iterable[float]) -> str:
    """`0 1 0 1`."""
    return " ".join(f"{number:g}" for number in numbers)


def vector(value: Array, channels: int, name: str) -> Floats:
    """A value a channel, whatever its shape."""
    if value.size != channels:
        raise CheckpointError(f"{name} has {value.size} values for {channels} channels")
    return value.ravel().astype(np.float64)


def tensor(values: Floats) -> Tensor:
    """float32, dense."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
