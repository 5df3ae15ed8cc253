"""Another device's rounding, imitated on the CPU, to know that the bounds of tests on a GPU are fair.

Another device adds up the products of a convolution in another order. A network amplifies that: batch normalisation
divides by small deviations, and ReLUs switch. So a bound that a correct device meets has to be measured.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stmn.nets.network import Network


def round_otherwise(
    network: Network, precision: torch.dtype = torch.float32, seed: int = 0, share: float = 1e-5
) -> None:
    """Make each convolution's results differ by what another device's rounding may change.

    Its weights are off by `share`, differently in each pass; the results of half precision are rounded after that.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.forward = _Convolution(module, precision, generator, share)


class _Convolution:
    """The forward pass of a convolution whose weights are a little off."""

    def __init__(self, layer: nn.Conv2d, precision: torch.dtype, generator: torch.Generator, share: float) -> None:
        self._layer, self._precision, self._generator, self._share = layer, precision, generator, share

    def __call__(self, x: Tensor) -> Tensor:
        layer = self._layer
        with torch.autocast("cpu", enabled=False):
            x, weight = (tensor.to(self._precision).float() for tensor in (x, layer.weight))
            weight = weight * (1 + self._share * torch.randn(weight.shape, generator=self._generator))
            found = F.conv2d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
            return found.to(self._precision)
