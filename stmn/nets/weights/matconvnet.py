"""Conversion of MatConvNet's ResNets, and of networks trained from them, to timm's state dicts.

MatConvNet imported these networks from Caffe: `imagenet-resnet-{50,101,152}-dag.mat`, and the base streams that the
two-stream authors trained from them. They compute the same as timm's ResNets, with three exceptions: where strides and
padding are (`create_backbone` with layout `caffe`), what a batch normalisation stores, and their input, which is
levels 0..255 minus a mean. `docs/reference/weights.md` lists every difference.
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

from stmn.errors import CheckpointError, count_of
from stmn.nets.weights.matlab import Array, DagNN, Layer, read_dagnn

_Floats = NDArray[np.float64]

#: epsilon of torch's batch normalisation; MatConvNet stores sqrt(variance + epsilon), with another epsilon
_EPSILON = 1e-5
#: the mean that the authors subtract from flow levels
_FLOW_MEAN = 128.0
#: res4b22_branch2a: the first 1x1 of unit b22 in conv4. Units are a, b1, b2, ..., or a, b, c, ... in a ResNet-50
_CONVOLUTION = re.compile(r"res([2-5])([a-z])(\d*)_branch(1|2[abc])")
#: branch -> timm's names for its convolution and normalisation
_TIMM_NAMES = {
    "1": ("downsample.0", "downsample.1"),
    "2a": ("conv1", "bn1"),
    "2b": ("conv2", "bn2"),
    "2c": ("conv3", "bn3"),
}
#: the first pooling of Caffe's ResNets
_POOL1 = {"poolSize": (3,), "stride": (2,), "pad": (0, 1, 0, 1)}


class InputLevels(Protocol):
    """How a stream's input is computed from levels 0..255: (level - mean) * scale.

    Attributes:
        mean: one value per channel of a frame (R, G, B) or of a flow field (u, v).
        scale: likewise.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class _NormalisedConv:
    """Filters (O, I, h, w) and the normalisation after them: y = gain * (conv(x) - mean) / sigma + offset."""

    filters: _Floats
    gain: _Floats
    offset: _Floats
    mean: _Floats
    sigma: _Floats

    def list_tensors(self, convolution: str, normalisation: str) -> Iterator[tuple[str, Tensor]]:
        """Yield the float32 tensors of timm's two modules of these names."""
        variance = np.maximum(self.sigma**2 - _EPSILON, 0)
        # the factor is 1 unless sigma is too small for torch's epsilon
        gain = self.gain * np.sqrt(variance + _EPSILON) / self.sigma
        yield f"{convolution}.weight", _to_tensor(self.filters)
        yield f"{normalisation}.weight", _to_tensor(gain)
        yield f"{normalisation}.bias", _to_tensor(self.offset)
        yield f"{normalisation}.running_mean", _to_tensor(self.mean)
        yield f"{normalisation}.running_var", _to_tensor(variance)


def read_matconvnet(path: Path, in_channels: int, levels: InputLevels) -> dict[str, Tensor]:
    """Read a ResNet as timm's state dict, without its classifier.

    On the same levels the outputs equal those of MatConvNet, to float32 precision, except where conv1 reaches beyond
    the frame's border: zero padding stands for the mean level there, and the two means differ
    (`docs/reference/weights.md` gives the size of the error).

    Args:
        path: a `.mat` file.
        in_channels: input channels of the stream. If they aren't 3 and the file's are, conv1 is averaged over the
            colours and repeated (section 3.1).
        levels: how the stream's input is computed from levels 0..255.

    Returns:
        float32 tensors under timm's names.

    Raises:
        CheckpointError: the file can't be read, isn't one of Caffe's ResNets, or has other input channels.
    """
    net = read_dagnn(path)
    try:
        units = _find_units(net)
        _check_layout(net, units)
        state = dict(_convert_conv1(net, in_channels, levels).list_tensors("conv1", "bn1"))
        for convolution, (unit, branch) in units.items():
            conv, bn = (f"{unit}.{name}" for name in _TIMM_NAMES[branch])
            state |= dict(_read_conv(net, convolution, convolution.replace("res", "", 1)).list_tensors(conv, bn))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return state


def _find_units(net: DagNN) -> dict[str, tuple[str, str]]:
    """Return the convolutions of the residual units: layer name -> (timm's unit, branch)."""
    found = {name: match for name in net.layers if (match := _CONVOLUTION.fullmatch(name))}
    if not found:
        raise CheckpointError("not a ResNet imported from Caffe: no layer has a name like res2a_branch2a")
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


def _find_layer(net: DagNN, name: str, kind: str = "Conv") -> Layer:
    """Return a layer that every such ResNet has."""
    layer = net.layers.get(name)
    if layer is None or layer.kind != kind:
        raise CheckpointError(f"not a ResNet imported from Caffe: lacks {name} ({kind})")
    return layer


def _read_conv(net: DagNN, convolution: str, name: str) -> _NormalisedConv:
    """Read a convolution, its normalisation bn`name`, and the layer scale`name` that some imports have as well."""
    layer, batch_norm = _find_layer(net, convolution), _find_layer(net, f"bn{name}", "BatchNorm")
    if len(layer.params) not in (1, 2) or layer.params[0].ndim > 4:
        raise CheckpointError(f"{layer.name} is not a convolution with filters and at most one bias")
    shape = (*layer.params[0].shape, 1, 1)[:4]  # MATLAB drops trailing ones
    filters = np.transpose(layer.params[0].reshape(shape), (3, 2, 0, 1)).astype(np.float64)
    channels = len(filters)
    if len(batch_norm.params) != 3 or batch_norm.params[2].shape != (channels, 2):
        raise CheckpointError(f"bn{name} lacks multipliers, biases or {channels} x 2 moments")
    gain, offset = (_read_vector(value, channels, f"bn{name}") for value in batch_norm.params[:2])
    mean, sigma = batch_norm.params[2].astype(np.float64).T
    if not (sigma > 0).all():
        raise CheckpointError(f"bn{name}: the second column of its moments (standard deviations) must be positive")
    if len(layer.params) == 2:
        mean = mean - _read_vector(layer.params[1], channels, layer.name)
    if f"scale{name}" in net.layers:
        params = _find_layer(net, f"scale{name}", "Scale").params
        scale, *shift = (_read_vector(value, channels, f"scale{name}") for value in params)
        gain, offset = gain * scale, offset * scale + sum(shift)
    return _NormalisedConv(filters, gain, offset, mean, sigma)


def _convert_conv1(net: DagNN, in_channels: int, levels: InputLevels) -> _NormalisedConv:
    """Read conv1 and convert it to the stream's input."""
    # With theirs = level - theirs.mean and ours = (level - ours.mean) * ours.scale: theirs = ours / ours.scale + d,
    # where d = ours.mean - theirs.mean. So the filters are divided by our scale. Their response to the constant d is
    # the same wherever conv1 stays within the frame, so the normalisation's mean absorbs it.
    conv1 = _read_conv(net, "conv1", "_conv1")
    filters, theirs = conv1.filters, conv1.filters.shape[1]
    mean: _Floats = np.full(in_channels, _FLOW_MEAN)
    if in_channels != 3 and theirs == 3:
        filters = filters.mean(axis=1, keepdims=True).repeat(in_channels, axis=1)
    elif in_channels != theirs:
        raise CheckpointError(f"conv1 reads {theirs} channels, and this stream has {in_channels}")
    else:
        known = _average_levels(net.average_image, in_channels)
        if known is not None:
            mean = known
        elif in_channels == 3:
            mean = levels.mean.astype(np.float64)
        if in_channels == 3 and mean[0] < mean[2]:
            # ImageNet's means are 104 for blue and 124 for red, so this file is still in Caffe's order, BGR
            filters, mean = filters[:, ::-1], mean[::-1]
    ours, scale = (np.tile(v.astype(np.float64), in_channels // len(v)) for v in (levels.mean, levels.scale))
    response = np.einsum("oihw,i->o", filters, ours - mean)
    filters = filters / scale[:, None, None]
    return _NormalisedConv(filters, conv1.gain, conv1.offset, conv1.mean - response, conv1.sigma)


def _average_levels(image: Array | None, channels: int) -> _Floats | None:
    """Return each channel's mean level, given an image, a value per channel, or one value; None if unknown."""
    if image is None or image.dtype.kind == "O" or not np.isfinite(image).all():
        return None
    levels: _Floats = image.astype(np.float64)
    if levels.ndim == 3 and levels.shape[2] == channels:
        return np.asarray(levels.mean(axis=(0, 1)))
    if levels.size in (1, channels):
        return np.broadcast_to(levels.ravel(), channels)
    return None  # an image with other channels, or the importer's value for "no image"


def _check_layout(net: DagNN, units: dict[str, tuple[str, str]]) -> None:
    """Make sure that every stride, padding and dilation is that of Caffe's ResNets."""
    wanted: dict[str, dict[str, tuple[int, ...]]] = {"conv1": {"stride": (2,), "pad": (3,)}, "pool1": _POOL1}
    for name, (unit, branch) in units.items():
        strided = unit.endswith(".0") and not unit.startswith("layer1") and branch in ("1", "2a")
        wanted[name] = {"stride": (1 + strided,), "pad": (int(branch == "2b"),), "dilate": (1,)}
    for name, settings in wanted.items():
        block = net.layers[name].block if name in net.layers else {}
        for key, value in settings.items():
            given = np.ravel(block.get(key, ()))  # top, bottom, left, right; or height, width; or one for all
            if given.size and not np.array_equal(np.resize(given, 4), np.resize(value, 4)):
                raise CheckpointError(
                    f"{name} has {key} {_join(given)}, but Caffe's ResNets have {_join(value)}: a different network"
                )


def _join(numbers: Iterable[float]) -> str:
    """Return numbers as `0 1 0 1`."""
    return " ".join(f"{number:g}" for number in numbers)


def _read_vector(value: Array, channels: int, name: str) -> _Floats:
    """Return one value per channel from an array of any shape."""
    if value.size != channels:
        raise CheckpointError(f"{name} has {count_of(value.size, 'value')} for {count_of(channels, 'channel')}")
    return value.ravel().astype(np.float64)


def _to_tensor(values: _Floats) -> Tensor:
    """Return a contiguous float32 tensor."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
