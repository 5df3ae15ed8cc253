"""Backbones: timm's ResNets, opened up into a stem and four parts of residual units.

Any model of timm's ResNet class can be used by its name. The five of the literature are registered plugins.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import timm
import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from stmn import registry
from stmn.errors import PluginError, UsageError, near_match
from stmn.nets.config import ResNetLayout
from stmn.nets.units import BottleneckUnit, Unit, open_unit
from stmn.registry.options import build, check_options

#: the parts of a ResNet in order: conv2_x to conv5_x of Table 1
PARTS = ("conv2", "conv3", "conv4", "conv5")


class Backbone(nn.Module):
    """A ResNet as a stem and parts. Parameters have timm's names.

    A backbone plugin is called with `in_channels` and `width` and returns one of these, or a module with the same
    attributes.

    Attributes:
        parts: the units of each part of `PARTS`, in order.
        channels: output channels of each part.
        num_features: channels of the last part's output.
        skip_temporal: temporal filters in the skip path, keyed by the part that they follow; injectors fill it.
        stride: pixels of the input per pixel of the last part's output.
        layout: where strides and padding are.
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
        for name in _LAYERS.values():
            setattr(self, name, nn.Sequential(*(open_unit(block) for block in getattr(net, name))))
        self.num_features = int(net.num_features)
        self.skip_temporal = nn.ModuleDict()

    @property
    def parts(self) -> dict[str, list[Unit]]:
        """The units of each part."""
        return {part: list(getattr(self, name)) for part, name in _LAYERS.items()}

    @property
    def channels(self) -> dict[str, int]:
        """The output channels of each part."""
        return {part: units[-1].out_channels for part, units in self.parts.items()}

    def stem(self, x: Tensor) -> Tensor:
        """Compute conv1 to pool1: (N, in_channels, H, W) to (N, 64, H/4, W/4)."""
        x = self.bn1(self.conv1(x))
        if isinstance(self.maxpool, nn.MaxPool2d) and isinstance(self.act1, nn.ReLU):
            x = self.act1(self.maxpool(x))  # bit-identical, and the ReLU has a quarter of the values to process
        else:
            x = self.maxpool(self.act1(x))
        return x


#: attributes that a backbone must have
_NEEDED = ("stem", "parts", "channels", "num_features", "skip_temporal", "stride", "layout")
#: part -> timm's name for it
_LAYERS = {part: f"layer{number}" for number, part in enumerate(PARTS, start=1)}


def _timm_resnet(name: str, in_channels: int = 3, width: float = 1.0) -> Backbone:
    """Build a ResNet of timm with random weights.

    Args:
        name: timm's name of the model.
        in_channels: channels that conv1 reads.
        width: scales the channels of the four parts, not those of the stem.

    Raises:
        UsageError: timm has no such ResNet.
    """
    check_arch(name)
    options: dict[str, Any] = {}
    if width != 1.0:
        options["channels"] = tuple(max(8, round(channels * width)) for channels in (64, 128, 256, 512))
    try:
        net = timm.create_model(name, pretrained=False, in_chans=in_channels, num_classes=0, **options)
    except RuntimeError as error:  # an unknown tag
        raise UsageError(f"{name}: {error}") from error
    return Backbone(cast(ResNet, net))


resnet18 = partial(_timm_resnet, "resnet18")
resnet34 = partial(_timm_resnet, "resnet34")
resnet50 = partial(_timm_resnet, "resnet50")
resnet101 = partial(_timm_resnet, "resnet101")
resnet152 = partial(_timm_resnet, "resnet152")


def check_arch(name: str) -> None:
    """Raise `UsageError` if timm has no ResNet of this name."""
    if name.partition(".")[0] not in timm.list_models(module="resnet"):  # a dot separates the name from a tag
        known = sorted({*timm.list_models(module="resnet"), *registry.names("backbone")})
        raise UsageError(f"unknown architecture '{name}'{near_match(name, known)}; use any ResNet of timm")


def create_backbone(
    name: str, in_channels: int, width: float = 1.0, layout: ResNetLayout = "torchvision",
    options: Mapping[str, Any] | None = None,
) -> Backbone:  # fmt: skip
    """Build a registered backbone, or else the ResNet of timm with this name.

    Args:
        name: name of the backbone.
        in_channels: channels that conv1 reads.
        width: scales the channels of the four parts.
        layout: where strides and padding are.
        options: options of the plugin.

    Raises:
        UsageError: there is no such backbone, it can't have this layout, or its options are wrong.
        PluginError: the plugin can't be loaded, or builds something that is not a backbone.
    """
    backbone: Backbone
    if name not in registry.names("backbone") and ":" not in name:
        if options:
            check_options("backbone", name, options)  # raises: a ResNet of timm has no options
        backbone = _timm_resnet(name, in_channels, width)
    else:
        backbone = build("backbone", name, options or {}, in_channels=in_channels, width=width)
        if lacking := [part for part in _NEEDED if not hasattr(backbone, part)]:
            raise PluginError(
                f"{registry.find('backbone', name).title} builds no backbone: it has no {', '.join(lacking)}; "
                f"stmn.plugins says what one is"
            )
    if layout == "caffe":
        _apply_caffe_layout(backbone, name)
    return backbone


def _apply_caffe_layout(backbone: Backbone, name: str) -> None:
    """Move strides and padding to where the original ResNets have them, in Caffe.

    In a downsampling unit, the first 1x1 convolution has the stride, not the 3x3. pool1 is padded only at the right and
    the bottom: a map of height H becomes ceil((H - 3) / 2) + 1 high. Parameters keep their names and shapes.
    """
    units = [unit for units in backbone.parts.values() for unit in units]
    stem = [getattr(backbone, module, None) for module in ("conv1", "maxpool")]
    plain = isinstance(stem[0], nn.Conv2d) and isinstance(stem[1], nn.MaxPool2d)
    # excluded: basic units, deep stems, anti-aliasing
    if not plain or not all(isinstance(unit, BottleneckUnit) and isinstance(unit.aa, nn.Identity) for unit in units):
        raise UsageError(
            f"{name} is not built like the ResNets of Caffe; resnet50, resnet101 and resnet152 can have their layout"
        )
    backbone.layout = "caffe"
    backbone.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    for unit in units:
        unit.conv1.stride, unit.conv2.stride = unit.conv2.stride, unit.conv1.stride


def replicate_filters(weight: Tensor, in_channels: int) -> Tensor:
    """Make the filters of a motion stream's conv1 from those of an RGB network (section 3.1).

    Nothing is rescaled, as in the authors' code.

    Args:
        weight: (O, 3, h, w).
        in_channels: channels that the motion stream reads.

    Returns:
        (O, in_channels, h, w) float32: the mean over RGB, repeated for each channel.
    """
    return weight.mean(dim=1, keepdim=True).repeat(1, in_channels, 1, 1).to(torch.float32)
