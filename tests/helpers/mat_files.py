"""ResNets as MatConvNet saves them, and what MatConvNet computes with them.

The arithmetic follows MatConvNet's manual, on MATLAB's own arrays (height, width, channels), in float64.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.io import savemat

UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
PARTS = ((8, 32), (16, 64), (32, 128), (64, 256))  # an eighth of the channels of the published ones
CAFFE_MEAN = (123.68, 116.78, 103.94)


@dataclass
class Net:
    """Layers in order: name -> [type, settings, parameters by name]."""

    channels: int
    mean: object  # averageImage
    layers: dict = field(default_factory=dict)


def unit_names(depth: int, count: int) -> list[str]:
    """a, b, c, ... in a ResNet-50; a, b1, b2, ... in deeper ones, in parts of more than three units."""
    if depth > 50 and count > 3:
        return ["a"] + [f"b{n}" for n in range(1, count)]
    return [chr(ord("a") + n) for n in range(count)]


def resnet(depth: int, channels: int = 3, mean: object = CAFFE_MEAN, seed: int = 0, conv1_bias: bool = True) -> Net:
    """A narrow ResNet of Caffe with random parameters, none at its neutral value."""
    rng = np.random.default_rng(seed)
    net = Net(channels, np.array(mean, np.float32))

    def conv(name, side, inputs, outputs, stride, bias=False, gain=1.0):
        filters = rng.normal(scale=gain / np.sqrt(side * side * inputs), size=(side, side, inputs, outputs))
        params = {f"{name}_filter": filters.astype(np.float32)}
        if bias:
            params[f"{name}_bias"] = rng.normal(size=(outputs, 1)).astype(np.float32)
        settings = {
            "size": [side, side, inputs, outputs],
            "pad": [side // 2] * 4,
            "stride": [stride, stride],
            "hasBias": bias,
        }
        net.layers[name] = ["dagnn.Conv", settings, params]
        bn = "bn_conv1" if name == "conv1" else name.replace("res", "bn", 1)
        moments = np.stack([rng.normal(scale=0.3, size=outputs), rng.uniform(0.5, 1.5, outputs)], axis=1)
        net.layers[bn] = [
            "dagnn.BatchNorm",
            {"epsilon": 1e-5},
            {
                f"{bn}_mult": rng.uniform(0.5, 1.5, (outputs, 1)).astype(np.float32),
                f"{bn}_bias": rng.normal(scale=0.3, size=(outputs, 1)).astype(np.float32),
                f"{bn}_moments": moments.astype(np.float32),
            },
        ]

    conv("conv1", 7, channels, 64, 2, bias=conv1_bias, gain=0.02)  # inputs are levels, up to 128
    net.layers["pool1"] = [
        "dagnn.Pooling",
        {"method": "max", "poolSize": [3, 3], "stride": [2, 2], "pad": [0, 1, 0, 1]},
        {},
    ]
    inputs = 64
    for part, (count, (middle, outputs)) in enumerate(zip(UNITS[depth], PARTS, strict=True), 2):
        for unit in unit_names(depth, count):
            stride = 2 if unit == "a" and part > 2 else 1
            if unit == "a":
                conv(f"res{part}{unit}_branch1", 1, inputs, outputs, stride)
            conv(f"res{part}{unit}_branch2a", 1, inputs, middle, stride)
            conv(f"res{part}{unit}_branch2b", 3, middle, middle, 1)
            conv(f"res{part}{unit}_branch2c", 1, middle, outputs, 1, gain=0.5)
            inputs = outputs
    net.layers["fc1000"] = ["dagnn.Conv", {"size": [1, 1, inputs, 10]}, {"fc1000_filter": np.ones((1, 1, inputs, 10))}]
    return net


def struct_array(items: list[dict]) -> np.ndarray:
    """A MATLAB struct array, 1 x N."""
    array = np.empty((1, len(items)), dtype=[(key, object) for key in items[0]])
    for index, item in enumerate(items):
        for key, value in item.items():
            array[0, index][key] = value
    return array


def cell(values: list) -> np.ndarray:
    """A MATLAB cell array, 1 x N."""
    array = np.empty((1, len(values)), dtype=object)
    array[0, :] = values
    return array


def write(path: Path, net: Net, inside: str | None = None) -> Path:
    """Save it as MatConvNet does: field by field, or `inside` a struct of that name along with training statistics."""
    params = [{"name": name, "value": value} for _, _, own in net.layers.values() for name, value in own.items()]
    layers = [
        {
            "name": name,
            "type": kind,
            "inputs": cell(["x"]),
            "outputs": cell([name]),
            "params": cell(list(own)),
            "block": {key: np.array(v, float) if not isinstance(v, str) else v for key, v in settings.items()},
        }
        for name, (kind, settings, own) in net.layers.items()
    ]
    saved = {
        "vars": struct_array([{"name": "data", "precious": 0}]),
        "params": struct_array(params),
        "layers": struct_array(layers),
        "meta": {"normalization": {"imageSize": np.array([224.0, 224, net.channels]), "averageImage": net.mean}},
    }
    savemat(path, {inside: saved, "stats": {"train": 0.5}} if inside else saved, do_compression=True)
    return path


def conv(x: np.ndarray, filters: np.ndarray, stride: int, border: np.ndarray | float = 0.0) -> np.ndarray:
    """vl_nnconv: (H, W, C) with filters (h, w, C, O), padded by h // 2 of `border`."""
    pad = filters.shape[0] // 2
    padded = np.broadcast_to(border, (x.shape[0] + 2 * pad, x.shape[1] + 2 * pad, x.shape[2])).copy()
    padded[pad : pad + x.shape[0], pad : pad + x.shape[1]] = x
    windows = sliding_window_view(padded, filters.shape[:2], axis=(0, 1))[::stride, ::stride]
    return np.einsum("yxcij,ijco->yxo", windows, filters.astype(np.float64), optimize=True)


def pool1(x: np.ndarray) -> np.ndarray:
    """vl_nnpool: maximum of 3 x 3, stride 2, padded by one at the bottom and at the right."""
    padded = np.pad(x, ((0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    return sliding_window_view(padded, (3, 3), axis=(0, 1))[::2, ::2].max(axis=(-2, -1))


def features(net: Net, x: np.ndarray, border: np.ndarray | float = 0.0, stem_only: bool = False) -> np.ndarray:
    """The last feature map of an (H, W, channels) input whose mean is subtracted; `border` is what conv1 sees beyond."""

    def layer(name: str, x: np.ndarray, stride: int = 1, border: np.ndarray | float = 0.0) -> np.ndarray:
        filters, *bias = net.layers[name][2].values()
        x = conv(x, filters, stride, border) + (bias[0].ravel() if bias else 0)
        rest = name.replace("res", "", 1) if name != "conv1" else "_conv1"
        mult, offset, moments = (p.astype(np.float64) for p in net.layers[f"bn{rest}"][2].values())
        x = mult.ravel() * (x - moments[:, 0]) / moments[:, 1] + offset.ravel()
        if f"scale{rest}" in net.layers:
            mult, offset = net.layers[f"scale{rest}"][2].values()
            x = mult.ravel() * x + offset.ravel()
        return x

    x = np.maximum(layer("conv1", x.astype(np.float64), 2, border), 0)
    if stem_only:
        return x
    x = pool1(x)
    for first in [name for name in net.layers if name.startswith("res") and name.endswith("_branch2a")]:
        unit = first.removesuffix("_branch2a")
        stride = 2 if unit[-1] == "a" and unit[3] != "2" else 1
        y = np.maximum(layer(first, x, stride), 0)
        y = np.maximum(layer(f"{unit}_branch2b", y), 0)
        y = layer(f"{unit}_branch2c", y)
        x = np.maximum(y + (layer(f"{unit}_branch1", x, stride) if f"{unit}_branch1" in net.layers else x), 0)
    return x
