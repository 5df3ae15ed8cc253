"""Backbones: timm's ResNets, opened into a stem, and parts of residual units.

Any timm model of its ResNet class can be used by its name; the five of the literature are registered plugins.
"""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import timm
import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from stmn import registry
from stmn.errors import PluginError, UsageError, near_match
from stmn.nets.config import ResNetLayout
from stmn.nets.units import BottleneckUnit, Unit, open_unit

#: a ResNet's four parts, in order: Table 1's conv2_x to conv5_x
PARTS = ("conv2", "conv3", "conv4", "conv5")
#: called with (in_channels, width); gives a `Backbone`
BackboneFactory = Callable[..., "Backbone"]


class Backbone(nn.Module):
    """A ResNet in its parts. Parameter names are timm's.

    `stem(x)`, `parts` (the units of conv2 to conv5), `channels` (of each part's output) and `num_features` are the
    contract; `stride` is the input's pixels to one pixel of the last part.
    """

    stride = 32
    layout: ResNetLayout = "torchvision"
    conv1: nn.Module
    bn1: nn.Module
    act1: nn.Module
    maxpool: nn.Module

    def __init__(self, net: ResNet) -> None:
        super().__init__()
        for name in ("conv1", "bn1", "act1", "maxpool"):
            setattr(self, name, getattr(net, name))
        for number in range(1, 5):
            layer = getattr(net, f"layer{number}")
            setattr(self, f"layer{number}", nn.Sequential(*(open_unit(block) for block in layer)))
        self.num_features = int(net.num_features)
        # the filters that injectors put into the skip path, by the part they follow
        self.skip_temporal = nn.ModuleDict()

    @property
    def parts(self) -> dict[str, list[Unit]]:
        """The units of each part."""
        return {part: list(getattr(self, f"layer{number}")) for number, part in enumerate(PARTS, start=1)}

    @property
    def channels(self) -> dict[str, int]:
        """The output channels of each part."""
        return {part: last_convolution(units[-1]).out_channels for part, units in self.parts.items()}

    def stem(self, x: Tensor) -> Tensor:
        """conv1 to pool1: (N, in_channels, H, W) to (N, 64, H/4, W/4)."""
        x = self.bn1(self.conv1(x))
        if isinstance(self.maxpool, nn.MaxPool2d) and isinstance(self.act1, nn.ReLU):
            return self.act1(self.maxpool(x))  # the same to the bit, and there are a quarter as many to compare with 0
        return self.maxpool(self.act1(x))

    def after_part(self, part: str, x: Tensor, chunks: int) -> Tensor:
        """Apply the temporal filter in the skip path after a part, if there is one."""
        return self.skip_temporal[part](x, chunks) if part in self.skip_temporal else x


def last_convolution(unit: Unit) -> nn.Conv2d:
    """The convolution at the end of a unit's residual branch."""
    return unit.conv3 if isinstance(unit, BottleneckUnit) else unit.conv2


def timm_resnet(name: str, in_channels: int = 3, width: float = 1.0) -> Backbone:
    """A timm ResNet by name with random weights, `width` times as many channels in its four parts.

    Raises `UsageError` when timm has no such ResNet.
    """
    check_arch(name)
    options: dict[str, Any] = (
        {} if width == 1.0 else {"channels": tuple(max(8, round(c * width)) for c in (64, 128, 256, 512))}
    )
    net = timm.create_model(name, pretrained=False, in_chans=in_channels, num_classes=0, **options)
    return Backbone(cast(ResNet, net))


def check_arch(name: str) -> None:
    """Raise `UsageError` when `name` is no ResNet of timm."""
    if name.partition(".")[0] not in timm.list_models(module="resnet"):  # behind a dot: a tag of weights
        known = sorted({*timm.list_models(module="resnet"), *registry.names("backbone")})
        raise UsageError(f"unknown architecture '{name}'{near_match(name, known)}; any ResNet of timm will do")


resnet18 = partial(timm_resnet, "resnet18")
resnet34 = partial(timm_resnet, "resnet34")
resnet50 = partial(timm_resnet, "resnet50")
resnet101 = partial(timm_resnet, "resnet101")
resnet152 = partial(timm_resnet, "resnet152")


def create_backbone(name: str, in_channels: int, width: float = 1.0, layout: ResNetLayout = "torchvision") -> Backbone:
    """A registered backbone, or timm's ResNet of that name.

    Raises `UsageError` when there is none, or none with that layout.
    """
    backbone: Backbone = (
        timm_resnet(name, in_channels, width)
        if name not in registry.names("backbone") and ":" not in name
        else registry.load("backbone", name)(in_channels=in_channels, width=width)
    )
    if layout == "caffe":
        lay_out_as_caffe(backbone, name)
    return backbone


def lay_out_as_caffe(backbone: Backbone, name: str) -> None:
    """Turn a backbone of torchvision's layout into the one that the first ResNets had, in Caffe.

    The first 1x1 convolution of a downsampling unit has the stride and not the 3x3, and pool1 pads at the right and at
    the bottom alone: an (H, W) map becomes ceil((H - 3) / 2) + 1 high. No parameter changes its name or shape.
    Raises `UsageError` for a ResNet that is built otherwise (basic units, deep stems, anti-aliasing).
    """
    units = [unit for part in backbone.parts.values() for unit in part]
    stem = [getattr(backbone, module, None) for module in ("conv1", "maxpool")]
    plain = isinstance(stem[0], nn.Conv2d) and isinstance(stem[1], nn.MaxPool2d)
    if not plain or not all(isinstance(unit, BottleneckUnit) and isinstance(unit.aa, nn.Identity) for unit in units):
        raise UsageError(f"{name} is not built like the ResNets of Caffe: resnet50, resnet101 and resnet152 are")
    backbone.layout = "caffe"
    backbone.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    for unit in units:
        unit.conv1.stride, unit.conv2.stride = unit.conv2.stride, unit.conv1.stride


def backbone_identity(name: str) -> dict[str, str]:
    """What a record says of a backbone, registered or timm's."""
    try:
        return registry.find("backbone", name).identity
    except PluginError:
        return {"kind": "backbone", "name": name, "package": "timm", "version": version("timm")}


def replicate_filters(weight: Tensor, in_channels: int) -> Tensor:
    """Make conv1 of a motion stream from RGB weights, (O, 3, h, w): their mean over RGB, `in_channels` times.

    Section 3.1; no rescaling, as in the authors' code.
    """
    return weight.mean(dim=1, keepdim=True).repeat(1, in_channels, 1, 1).to(torch.float32)
