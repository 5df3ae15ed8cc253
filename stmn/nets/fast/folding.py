"""A network made ready for testing: the same function of its input in fewer and cheaper steps. Weights on disk stay."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stmn.nets.backbones import Backbone
from stmn.nets.fast import winograd
from stmn.nets.network import Network
from stmn.nets.units import BasicUnit, Unit


def folded(network: Network) -> Network:
    """A copy for testing whose batch normalisations are part of the convolutions before them.

    Its scores are the network's in evaluation mode, but for rounding; it can't be trained. The network is left as
    it is. What is no plain convolution with a plain normalisation behind it (a plugin's, say) stays as it was, too.
    """
    ready = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(ready.modules()):
        if isinstance(module, nn.Sequential):
            for number in range(1, len(module)):
                fold(module, str(number - 1), module, str(number))
        elif isinstance(module, Unit | Backbone):
            for number in (1, 2, 3):
                fold(module, f"conv{number}", module, f"bn{number}")
    return ready


def fold(holder: nn.Module, conv_name: str, norm_holder: nn.Module, norm_name: str) -> None:
    """Make a normalisation part of the convolution before it, where both are there and plain."""
    conv, norm = getattr(holder, conv_name, None), getattr(norm_holder, norm_name, None)
    if isinstance(conv, nn.Sequential) and len(conv):  # a deep stem: its last convolution
        holder, conv_name, conv = conv, str(len(conv) - 1), conv[-1]
    if type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or norm.running_mean is None:
        return
    with torch.no_grad():
        setattr(holder, conv_name, fuse_conv_bn_eval(conv, norm))
    setattr(norm_holder, norm_name, nn.Identity())


def with_winograd(network: Network) -> Network:
    """Replace the 3x3 convolutions of a folded network by `winograd.WinogradConv2d`, with the ReLUs behind them.

    For a float32 network on a CPU; where there is no kernel (`winograd.problem`) the network is left as it is.
    """
    if winograd.problem() is not None:
        return network
    for unit in [u for name in network.names for units in network.stream(name).backbone.parts.values() for u in units]:
        if isinstance(unit, BasicUnit):
            convert(unit, 1)
            convert(unit, 2, activation=None)
        else:
            convert(unit, 2)
    return network


def convert(unit: Unit, number: int, activation: str | None = "act") -> None:
    """One convolution of a unit; `activation`: whether the ReLU of that number may become part of it."""
    conv = getattr(unit, f"conv{number}")
    if type(conv) is not nn.Conv2d or not winograd.transformable(
        conv.weight, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode
    ):
        return
    relu = activation is not None and isinstance(getattr(unit, f"act{number}"), nn.ReLU)
    relu = relu and all(isinstance(m, nn.Identity) for m in (getattr(unit, f"bn{number}"), unit.drop_block))
    setattr(unit, f"conv{number}", winograd.WinogradConv2d(conv, relu))
    if relu:
        setattr(unit, f"act{number}", nn.Identity())
