"""Winograd's convolutions in training, on a CPU: 3x3 forward and backward, and the gradient by a stem's 7x7 kernel.

With Y = A^T [(G g G^T) (.) (B^T d B)] A for a tile d and a kernel g, the gradient by the kernel is
G^T [(A dY A^T) (.) (B^T d B)] G, summed over tiles, and the gradient by the input is the same convolution of dY with
the kernel turned by 180 degrees. They differ from the direct gradients by rounding.

A 7x7 convolution of stride 2 is a 4x4 one of stride 1 over the picture's four phases, rows and columns even and odd,
with a kernel whose first row and column are zero: so the gradient by it is that of F(3x3, 4x4).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.overrides import TorchFunctionMode

from stmn.nets.winograd import (
    MATRICES,
    MOST,
    VALUES,
    WIDTH,
    blocks,
    convolve,
    pays,
    problem,
    scratch,
    tiles_of,
    transform,
    transformable,
    values,
)

#: the kernel turned by 180 degrees has its values in opposite order
TURNED = MATRICES[3].flip(1).contiguous()
#: planes of a stem whose gradient is transformed
LEAST_PLANES = 8


class Winograd(TorchFunctionMode):
    """Where it is active, convolutions are Winograd's wherever that is faster; all others stay PyTorch's."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every torch function that is called comes by here."""
        found = faster(*args) if func is torch.conv2d and not kwargs else None
        return func(*args, **(kwargs or {})) if found is None else found


def faster(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: object = 1, padding: object = 0,
    dilation: object = 1, groups: int = 1,
) -> Tensor | None:  # fmt: skip
    """The convolution of conv2d's arguments; None where PyTorch's own is as fast."""
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu" and bias is None
    if not plain or x.ndim != 4 or problem() is not None:
        return None
    found: Tensor | None = None
    if transformable(weight, stride, padding, dilation, groups) and pays(x):
        found = Convolution.apply(x, weight)
    elif is_stem(weight, stride, padding, dilation, groups) and not x.requires_grad:
        found = Stem.apply(x, weight)
    return found


def is_stem(weight: Tensor, stride: object, padding: object, dilation: object, groups: int) -> bool:
    """True for 7x7, stride 2, padding 3, over planes enough: of an RGB frame's the transforms would cost more."""
    return (
        weight.shape[2:] == (7, 7) and stride in ((2, 2), 2) and padding in ((3, 3), 3) and dilation in ((1, 1), 1)
        and groups == 1 and weight.shape[0] % WIDTH == 0 and weight.shape[1] % 2 == 0
        and LEAST_PLANES <= weight.shape[1] <= MOST // 4
    )  # fmt: skip


class Convolution(torch.autograd.Function):
    """(N, C, H, W) and (K, C, 3, 3) to (N, K, H, W)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution."""
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return convolve(x, kernels(MATRICES[3], weight).transpose(1, 2), weight.new_zeros(weight.shape[0]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The gradients by the pictures and by the kernels."""
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        by_x = by_weight = None
        if ctx.needs_input_grad[0]:
            by_x = convolve(gradient, kernels(TURNED, weight), weight.new_zeros(weight.shape[1]))
        if ctx.needs_input_grad[1]:
            by_weight = gradient_by_kernels(x, gradient, 3)
        return by_x, by_weight


class Stem(torch.autograd.Function):
    """(N, C, H, W) and (K, C, 7, 7) to (N, K, ceil(H / 2), ceil(W / 2)); the pictures get no gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution, which is PyTorch's: here the transforms cost what they save."""
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x)
        return F.conv2d(x, weight, None, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """The gradient by the kernels."""
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        by_phases = gradient_by_kernels(phases(ctx.saved_tensors[0]), gradient, 4)
        return None, F.pixel_shuffle(by_phases, 2)[..., 1:, 1:]


def phases(x: Tensor) -> Tensor:
    """(N, C, H, W) to its rows and columns even and odd, (N, 4 * C, ceil(H / 2), ceil(W / 2)), in channels_last."""
    height, width = x.shape[2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))
    return F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)


def kernels(matrix: Tensor, weight: Tensor) -> Tensor:
    """(K, C, taps, taps) to the 36 values of each kernel, (36, K, C), in memory that the next call uses again."""
    out = scratch("kernels", VALUES * weight.shape[0] * weight.shape[1]).view(VALUES, -1)
    return torch.mm(matrix, values(weight), out=out).view(VALUES, *weight.shape[:2])


def gradient_by_kernels(x: Tensor, gradient: Tensor, taps: int) -> Tensor:
    """The gradient by the kernels, (K, C, taps, taps), of pictures (N, C, H, W) and the result's gradient (N, K, H, W).

    Both in channels_last.
    """
    channels, out, size = x.shape[1], gradient.shape[1], (7 - taps, *x.shape[2:])
    sums = scratch("kernels", VALUES * out * channels).view(VALUES, out, channels)
    for first, rows in blocks(tiles_of(x, taps), max(channels, out)):
        v, z = (scratch(name, VALUES * rows * c).view(VALUES, rows, c) for name, c in (("v", channels), ("m", out)))
        transform("tiles_in", (x, v), (*size, channels), first, rows)
        transform("tiles_of_gradient", (gradient, z), (*size, out), first, rows)
        torch.baddbmm(sums, z.transpose(1, 2), v, beta=int(first > 0), out=sums)
    flat = scratch("values", taps * taps * out * channels).view(taps * taps, -1)
    torch.mm(MATRICES[taps].t(), sums.view(VALUES, -1), out=flat)
    by_values = flat.view(taps, taps, out, channels).permute(2, 3, 0, 1)
    return by_values.contiguous(memory_format=torch.channels_last)
