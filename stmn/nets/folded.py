"""A network made ready for testing: the same function of its input in fewer and cheaper steps. Weights on disk stay."""

import copy
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stmn.nets import winograd
from stmn.nets.backbones import Backbone
from stmn.nets.network import Network, TwoStream, gate_name
from stmn.nets.units import BasicUnit, BottleneckUnit, Unit


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
    overwrite_sums(ready)
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


def overwrite_sums(network: Network) -> None:
    """Let ReLUs work in place where nobody reads what is before them: fresh memory costs as much as the ReLU.

    A gate whose operand is `pre_relu` reads the sum before a unit's last one.
    """
    for name in network.names:
        backbone = network.stream(name).backbone
        places = [(stage, index) for stage, units in enumerate(backbone.stages) for index in range(len(units))]
        if isinstance(backbone.maxpool, nn.MaxPool2d) and isinstance(backbone.act1, nn.ReLU):
            # the largest of ReLUs is the ReLU of the largest, and there are a quarter as many
            backbone.maxpool, backbone.act1 = nn.Sequential(backbone.maxpool, backbone.act1), nn.Identity()
            in_place(backbone.maxpool[1])
        for number, (stage, index) in enumerate(places):
            unit = backbone.stages[stage][index]
            in_place(unit.act1)
            if isinstance(unit, BottleneckUnit):
                in_place(unit.act2)
            after = places[number + 1] if number + 1 < len(places) else None
            if not isinstance(network, TwoStream) or after is None or gate_name(name, *after) not in network.gates:
                in_place(unit.act3 if isinstance(unit, BottleneckUnit) else unit.act2)


def in_place(activation: nn.Module) -> None:
    """Let a ReLU overwrite what it is given."""
    if isinstance(activation, nn.ReLU):
        activation.inplace = True


def with_winograd(network: Network) -> Network:
    """Replace the 3x3 convolutions of a folded network by `winograd.WinogradConv2d`, with the ReLUs behind them.

    For a float32 network on a CPU; where there is no kernel (`winograd.problem`) the network is left as it is.
    """
    if winograd.problem() is not None:
        return network
    for unit in [u for name in network.names for units in network.stream(name).backbone.stages for u in units]:
        if isinstance(unit, BasicUnit):
            convert(unit, 1)
            convert(unit, 2, activation=None)
        else:
            convert(unit, 2)
    return network


def convert(unit: Unit, number: int, activation: str | None = "act") -> None:
    """One convolution of a unit; `activation`: whether the ReLU of that number may become part of it."""
    conv = getattr(unit, f"conv{number}")
    if type(conv) is not nn.Conv2d or not winograd.fits(conv):
        return
    behind = [getattr(unit, f"bn{number}"), unit.drop_block]
    relu = activation is not None and isinstance(getattr(unit, f"act{number}"), nn.ReLU)
    relu = relu and all(isinstance(module, nn.Identity) for module in behind)
    setattr(unit, f"conv{number}", winograd.WinogradConv2d(cast(nn.Conv2d, conv), relu))
    if relu:
        setattr(unit, f"act{number}", nn.Identity())
