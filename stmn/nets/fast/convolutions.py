"""Convolutions of a training step in less time, on a CPU: 3x3 ones, a stem's 7x7, and temporal filters.

Winograd's F(4x4, 3x3), forward and backward: with Y = A^T [(G g G^T) (.) (B^T d B)] A for a tile d and a kernel g, the
gradient by the kernel is G^T [(A dY A^T) (.) (B^T d B)] G, summed over tiles, and the gradient by the input is the same
convolution of dY with the kernel turned by 180 degrees. They differ from the direct gradients by rounding.

A 7x7 convolution of stride 2 is a 4x4 one of stride 1 over the picture's four phases, rows and columns even and odd,
with a kernel whose first row and column are zero: so the gradient by it is that of F(3x3, 4x4).

Where tiles don't pay, the gradient by a 3x3 kernel is one matrix product of what the kernel saw, place by place. That
by a temporal filter is a product a tap: a chunk's places lie side by side in memory.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

from stmn.nets.fast.winograd import (
    AT_A_TIME,
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


class FasterConvolutions(TorchFunctionMode):
    """Where it is active, convolutions are those below wherever that is faster; all others stay PyTorch's."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every torch function that is called comes by here."""
        found = faster(*args) if func is torch.conv2d and not kwargs else None
        return func(*args, **(kwargs or {})) if found is None else found


def faster(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: object = 0,
    dilation: object = 1, groups: int = 1,
) -> Tensor | None:  # fmt: skip
    """The convolution of conv2d's arguments; None where PyTorch's own is as fast."""
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu" and x.ndim == 4
    if not plain or problem() is not None:
        return None
    found: Tensor | None = None
    if is_filter(weight, stride, padding, dilation, groups):
        found = Filter.apply(x, weight, bias)
    elif bias is not None:
        return None
    elif transformable(weight, 1, padding, dilation, groups) and stride in ((1, 1), (2, 2), 1, 2):
        found = Convolution.apply(x, weight, stride if isinstance(stride, int) else stride[0])
    elif is_stem(weight, stride, padding, dilation, groups) and not x.requires_grad:
        found = Stem.apply(x, weight)
    return found


def is_filter(weight: Tensor, stride: object, padding: object, dilation: object, groups: int) -> bool:
    """True for a kernel of one column and an odd number of rows, more than one, that keeps the size."""
    rows, columns = weight.shape[2:]
    return (
        columns == 1 and rows > 1 and rows % 2 == 1 and padding in ((rows // 2, 0), [rows // 2, 0]) and groups == 1
        and stride in ((1, 1), [1, 1], 1) and dilation in ((1, 1), [1, 1], 1)
    )  # fmt: skip


def is_stem(weight: Tensor, stride: object, padding: object, dilation: object, groups: int) -> bool:
    """True for 7x7, stride 2, padding 3, over planes enough: of an RGB frame's the transforms would cost more."""
    return (
        weight.shape[2:] == (7, 7) and stride in ((2, 2), 2) and padding in ((3, 3), 3) and dilation in ((1, 1), 1)
        and groups == 1 and weight.shape[0] % WIDTH == 0 and weight.shape[1] % 2 == 0
        and LEAST_PLANES <= weight.shape[1] <= MOST // 4
    )  # fmt: skip


class Convolution(torch.autograd.Function):
    """(N, C, H, W) and (K, C, 3, 3) to (N, K, ceil(H / stride), ceil(W / stride)): padding 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """The convolution."""
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.transformed = stride, stride == 1 and pays(x)
        if not ctx.transformed:
            return F.conv2d(x, weight, None, stride, 1)
        return convolve(x, kernels(MATRICES[3], weight).transpose(1, 2), weight.new_zeros(weight.shape[0]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The gradients by the pictures and by the kernels."""
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        by_x = by_weight = None
        if ctx.needs_input_grad[0]:
            by_x = (
                convolve(gradient, kernels(TURNED, weight), weight.new_zeros(weight.shape[1])) if ctx.transformed
                else conv2d_input(x.shape, weight, gradient, ctx.stride, 1)
            )  # fmt: skip
        if ctx.needs_input_grad[1]:
            by_weight = (
                gradient_by_kernels(x, gradient, 3) if ctx.transformed else gradient_by_places(x, gradient, ctx.stride)
            )
        return by_x, by_weight, None


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


class Filter(torch.autograd.Function):
    """(B, C, T, places), (K, C, taps, 1) and (K,) to (B, K, T, places): a temporal filter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution."""
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=(weight.shape[2] // 2, 0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients by the maps, the filter and the bias."""
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        by_x = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            by_x = conv2d_input(x.shape, weight, gradient, padding=(weight.shape[2] // 2, 0))
        if ctx.needs_input_grad[1]:
            by_weight = gradient_by_taps(x, gradient, weight.shape[2])
        if ctx.needs_input_grad[2]:
            by_bias = gradient.sum(dim=(0, 2, 3))
        return by_x, by_weight, by_bias


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
        transform("stmn_winograd_input", (x, v), (*size, channels), first, rows)
        transform("stmn_winograd_gradient", (gradient, z), (*size, out), first, rows)
        torch.baddbmm(sums, z.transpose(1, 2), v, beta=int(first > 0), out=sums)
    flat = scratch("values", taps * taps * out * channels).view(taps * taps, -1)
    torch.mm(MATRICES[taps].t(), sums.view(VALUES, -1), out=flat)
    by_values = flat.view(taps, taps, out, channels).permute(2, 3, 0, 1)
    return by_values.contiguous(memory_format=torch.channels_last)


def gradient_by_places(x: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """The gradient by 3x3 kernels, (K, C, 3, 3), as one product: dY (K, places) by what each place saw (places, 9 * C).

    Picture by picture, as many at a time as stay in the processor's cache.
    """
    seen = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1).unfold(1, 3, stride).unfold(2, 3, stride)  # (N, h, w, C, 3, 3)
    seen, rows = seen.permute(0, 1, 2, 4, 5, 3), gradient.permute(0, 2, 3, 1).flatten(1, 2)
    count, channels, out = len(x), x.shape[1], gradient.shape[1]
    sums = x.new_zeros(out, 9 * channels)
    step = max(1, AT_A_TIME // seen[0].numel())
    for first in range(0, count, step):
        some = seen[first : first + step]
        columns = scratch("v", some.numel()).view(some.shape).copy_(some).view(-1, 9 * channels)
        sums.addmm_(rows[first : first + step].flatten(0, 1).t(), columns)
    return sums.view(out, 3, 3, channels).permute(0, 3, 1, 2)


def gradient_by_taps(x: Tensor, gradient: Tensor, taps: int) -> Tensor:
    """The gradient by a temporal filter, (K, C, taps, 1), of maps (B, C, T, places) and the result's (B, K, T, places).

    A tap reads the chunk `shift` later than the one it writes, where there is one.
    """
    chunks, places = x.shape[2:]
    given, wanted = (tensor.permute(0, 2, 3, 1).flatten(1, 2) for tensor in (x, gradient))  # (B, T * places, ...)
    sums = x.new_zeros(taps, gradient.shape[1], x.shape[1])
    for tap in range(taps):
        shift = tap - taps // 2
        first, last = max(0, -shift) * places, min(chunks, chunks - shift) * places
        for read, written in zip(given, wanted, strict=True):
            if first < last:
                sums[tap].addmm_(written[first:last].t(), read[first + shift * places : last + shift * places])
    return sums.permute(1, 2, 0).unsqueeze(-1)
