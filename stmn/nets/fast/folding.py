"""A copy of a network for testing that computes the same function in fewer and cheaper steps."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stmn.nets.backbones import Backbone
from stmn.nets.fast.convolutions import Conv3x3, FastConv2d, use_fast_convolutions
from stmn.nets.network import Network
from stmn.nets.units import BasicUnit, Unit


def fold_batch_norms(network: Network) -> Network:
    """Copy a network for testing, with each batch normalisation folded into the convolution before it.

    Anything but a plain convolution with a plain normalisation after it, in a plugin for example, is copied as it is.

    Returns:
        A network with the same logits as `network` in evaluation mode, up to rounding. It can't be trained.
    """
    ready = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(ready.modules()):
        if isinstance(module, nn.Sequential):
            for number in range(1, len(module)):
                _fold(module, str(number - 1), module, str(number))
        elif isinstance(module, Unit | Backbone):
            for number in (1, 2, 3):
                _fold(module, f"conv{number}", module, f"bn{number}")
    return ready


def freeze_convolutions(network: Network) -> None:
    """Make the convolutions of a network from `fold_batch_norms` faster, and include the ReLUs after them.

    The network is changed in place. It must be float32 and on a CPU.
    """
    use_fast_convolutions(network)
    for name in network.names:
        for units in network.stream(name).backbone.parts.values():
            for unit in units:
                _freeze_unit(unit)


def _fold(holder: nn.Module, conv_name: str, norm_holder: nn.Module, norm_name: str) -> None:
    """Fold a normalisation into the convolution before it, if both exist and are plain."""
    conv, norm = getattr(holder, conv_name, None), getattr(norm_holder, norm_name, None)
    if isinstance(conv, nn.Sequential) and len(conv):  # a deep stem: its last convolution
        holder, conv_name, conv = conv, str(len(conv) - 1), conv[-1]
    if not isinstance(conv, nn.Conv2d) or type(norm) is not nn.BatchNorm2d or norm.running_mean is None:
        return
    if type(conv) is not nn.Conv2d and not isinstance(conv, FastConv2d):  # a plugin's subclass may compute anything
        return
    with torch.no_grad():
        setattr(holder, conv_name, fuse_conv_bn_eval(conv, norm))
    setattr(norm_holder, norm_name, nn.Identity())


def _freeze_unit(unit: Unit) -> None:
    """Freeze the 3x3 convolutions of a unit. In a basic unit, a sum comes between the last one and its ReLU."""
    if not isinstance(unit, Unit):  # a plugin's unit may be built in any way
        return
    for number, has_relu in ((1, True), (2, False)) if isinstance(unit, BasicUnit) else ((2, True),):
        conv = getattr(unit, f"conv{number}")
        if not isinstance(conv, Conv3x3):
            continue
        between = [getattr(unit, f"bn{number}"), unit.drop_block]
        relu = has_relu and isinstance(getattr(unit, f"act{number}"), nn.ReLU)
        relu = relu and all(isinstance(module, nn.Identity) for module in between)
        conv.freeze(relu)
        if relu:
            setattr(unit, f"act{number}", nn.Identity())
