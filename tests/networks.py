"""What tests of networks share."""

import torch
from torch import nn


def shaken(network: nn.Module) -> nn.Module:
    """Random statistics and gains: fresh ones hide mistakes (the last normalisation of a unit starts at gain 0)."""
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.3)
    return network.eval()
