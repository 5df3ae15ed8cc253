"""Which convolutions of a network are computed faster, in training and in testing.

`use_fast_convolutions` changes only the class of those convolutions: they keep their names, parameters, buffers and
hooks, so state dicts and optimizers are not affected. A forward pass without gradients is bit-identical to PyTorch's,
unless the weights were frozen for testing.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from stmn.nets.fast import winograd
from stmn.nets.fast.functions import Convolve3x3, ConvolveStem, ConvolveTime

#: a stem with fewer input channels, such as RGB's, keeps PyTorch's gradient: the transforms would cost more
_MIN_STEM_CHANNELS = 8


def use_fast_convolutions(network: nn.Module) -> None:
    """Compute a network's convolutions faster where that is possible. The network is changed in place.

    It must be float32 and on a CPU. Without a C kernel (`winograd.problem`) it stays as it is.
    """
    if winograd.problem() is not None:
        return
    for module in network.modules():
        if type(module) is nn.Conv2d:  # a plugin's subclass may compute anything
            for kind in _KINDS:
                if kind.fits(module):
                    module.__class__ = kind  # as torch's lazy modules do
                    break


class FastConv2d(nn.Conv2d):
    """A convolution that is faster while it records gradients."""

    @classmethod
    def fits(cls, conv: nn.Conv2d) -> bool:
        """True if a convolution can be computed this way."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        return self._record(x) if self._records_gradient(x) else super().forward(x)

    def _record(self, x: Tensor) -> Tensor:
        """Convolve, with a gradient."""
        raise NotImplementedError

    def _records_gradient(self, x: Tensor) -> bool:
        """True if the fast gradient is needed and supported."""
        return torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad) and _is_supported(x)


class Conv3x3(FastConv2d):
    """3x3, stride 1 or 2, padding 1. With stride 1 it can be frozen for testing."""

    #: transformed kernels, (36, C, K), of weights that no longer change
    _kernels: Tensor | None = None
    _relu = False

    @classmethod
    def fits(cls, conv: nn.Conv2d) -> bool:
        """True for 3x3, stride 1 or 2, padding 1, no groups, and channels that the C kernel takes."""
        return _is_plain(conv, stride=(1, 2), padding=(1, 1)) and winograd.can_transform(conv.weight)

    def freeze(self, relu: bool) -> None:
        """Transform the kernels once and for all; afterwards there are no gradients.

        Args:
            relu: apply a ReLU to the output as well.
        """
        self._relu = relu
        if self.stride == (1, 1):
            with torch.no_grad():
                self._kernels = winograd.transform_kernels(self.weight).clone().transpose(1, 2)
            if self.bias is None:
                self.bias = nn.Parameter(torch.zeros(self.out_channels), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        if self._kernels is not None and _is_supported(x) and winograd.is_faster(x):
            assert self.bias is not None
            return winograd.convolve(x, self._kernels, self.bias, self._relu)
        y = super().forward(x)
        return y.relu_() if self._relu else y

    def _record(self, x: Tensor) -> Tensor:
        y: Tensor = Convolve3x3.apply(x, self.weight, self.stride[0])
        return y

    def _records_gradient(self, x: Tensor) -> bool:
        return self.bias is None and super()._records_gradient(x)


class StemConv(FastConv2d):
    """A motion stream's conv1: 7x7, stride 2, padding 3. Only the gradient of its weight is faster."""

    @classmethod
    def fits(cls, conv: nn.Conv2d) -> bool:
        """True for 7x7, stride 2, padding 3, without bias, and with suitable numbers of channels."""
        outputs, channels, *size = conv.weight.shape
        return (
            size == [7, 7] and _is_plain(conv, stride=(2,), padding=(3, 3)) and conv.bias is None
            and outputs % winograd.VECTOR == 0 and channels % 2 == 0
            and _MIN_STEM_CHANNELS <= channels <= winograd.MAX_CHANNELS // 4
        )  # fmt: skip

    def _record(self, x: Tensor) -> Tensor:
        y: Tensor = ConvolveStem.apply(x, self.weight)
        return y

    def _records_gradient(self, x: Tensor) -> bool:
        return not x.requires_grad and super()._records_gradient(x)


class TemporalConv(FastConv2d):
    """The convolution of a `TemporalFilter`: one column and an odd number of rows, more than one."""

    @classmethod
    def fits(cls, conv: nn.Conv2d) -> bool:
        """True for a kernel of one column that keeps the size of the map."""
        rows, columns = conv.weight.shape[2:]
        return columns == 1 and rows > 1 and rows % 2 == 1 and _is_plain(conv, stride=(1,), padding=(rows // 2, 0))

    def _record(self, x: Tensor) -> Tensor:
        y: Tensor = ConvolveTime.apply(x, self.weight, self.bias)
        return y


_is_tracing: Callable[[], bool] = is_tracing
_KINDS: tuple[type[FastConv2d], ...] = (Conv3x3, StemConv, TemporalConv)


def _is_plain(conv: nn.Conv2d, stride: tuple[int, ...], padding: tuple[int, int]) -> bool:
    """True for a convolution with one of these strides and this padding, of zeros, and without dilation or groups."""
    return (
        conv.stride in [(n, n) for n in stride] and conv.padding == padding and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1) and conv.groups == 1
        and conv.weight.dtype == torch.float32 and conv.weight.device.type == "cpu"
    )  # fmt: skip


def _is_supported(x: Tensor) -> bool:
    """True for float32 (N, C, H, W) on a CPU. Compiled, exported and traced networks keep PyTorch's convolutions."""
    return (
        x.ndim == 4 and x.dtype == torch.float32 and x.device.type == "cpu"
        and not torch.compiler.is_compiling() and not _is_tracing()
    )  # fmt: skip
