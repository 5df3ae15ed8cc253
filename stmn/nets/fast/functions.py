"""Convolutions with faster gradients, as autograd functions: 3x3, a motion stream's stem, temporal filters.

- 3x3 with stride 1: Winograd's, forward and backward. The gradient of the input is the same convolution of dY, with the
  kernel turned by 180 degrees. Where tiles don't pay off, and with stride 2, the gradient of the kernel is one matrix
  product of dY and the patches that the kernel read.
- 7x7 with stride 2: a 4x4 convolution of stride 1 over the four phases of the image, which are its even and odd rows
  and columns. Its kernel's first row and column are zero. So the gradient of the kernel is that of F(3x3, 4x4).
- A temporal filter: the gradient of its kernel is one matrix product per tap, because the places of a chunk are
contiguous in memory.

All tensors are float32 on the CPU. Gradients differ from PyTorch's by rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

from stmn.nets.fast import winograd

_input_gradient: Callable[..., Tensor] = conv2d_input


class Convolve3x3(torch.autograd.Function):
    """A 3x3 convolution with padding 1 and without bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """Convolve (N, C, H, W) with (K, C, 3, 3) to (N, K, ceil(H / stride), ceil(W / stride))."""
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.transformed = stride, stride == 1 and winograd.is_faster(x)
        if not ctx.transformed:
            return F.conv2d(x, weight, None, stride, 1)
        kernels = winograd.transform_kernels(weight).transpose(1, 2)
        return winograd.convolve(x, kernels, weight.new_zeros(weight.shape[0]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients of x and of the weight."""
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            if ctx.transformed:
                kernels = winograd.transform_kernels(weight, turned=True)
                of_x = winograd.convolve(gradient, kernels, weight.new_zeros(weight.shape[1]))
            else:
                of_x = _input_gradient(x.shape, weight, gradient, ctx.stride, 1)
        if ctx.needs_input_grad[1]:
            if ctx.transformed:
                of_weight = winograd.kernel_gradient(x, gradient, 3)
            else:
                of_weight = _gradient_by_patches(x, gradient, ctx.stride)
        return of_x, of_weight, None


class ConvolveStem(torch.autograd.Function):
    """A 7x7 convolution with stride 2, padding 3 and no bias; its input gets no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve (N, C, H, W) with (K, C, 7, 7) to (N, K, ceil(H / 2), ceil(W / 2)), as PyTorch does.

        In the forward pass, transforms would cost as much as they save.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x)
        return F.conv2d(x, weight, None, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """Return the gradient of the weight."""
        (x,) = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_phases = winograd.kernel_gradient(_split_phases(x), gradient, 4)
        return None, F.pixel_shuffle(of_phases, 2)[..., 1:, 1:]


class ConvolveTime(torch.autograd.Function):
    """A temporal filter: a convolution along T that keeps the size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve (B, C, T, places) with (K, C, taps, 1) and (K,) to (B, K, T, places), as PyTorch does."""
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=(weight.shape[2] // 2, 0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of x, of the weight and of the bias."""
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _input_gradient(x.shape, weight, gradient, padding=(weight.shape[2] // 2, 0))
        if ctx.needs_input_grad[1]:
            of_weight = _gradient_by_taps(x, gradient, weight.shape[2])
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=(0, 2, 3))
        return of_x, of_weight, of_bias


def _split_phases(x: Tensor) -> Tensor:
    """Even and odd rows and columns of (N, C, H, W), as channels: (N, 4 * C, ceil(H / 2), ceil(W / 2))."""
    height, width = x.shape[2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))
    return F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)


def _gradient_by_patches(x: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """The gradient of 3x3 kernels, (K, C, 3, 3), as a product: dY, (K, places), with the patches, (places, 9 * C).

    It takes as many images at a time as fit the processor's cache.
    """
    patches = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1).unfold(1, 3, stride).unfold(2, 3, stride)  # (N, h, w, C, 3, 3)
    patches, rows = patches.permute(0, 1, 2, 4, 5, 3), gradient.permute(0, 2, 3, 1).flatten(1, 2)
    count, channels, out_channels = len(x), x.shape[1], gradient.shape[1]
    sums = x.new_zeros(out_channels, 9 * channels)
    step = max(1, winograd.BLOCK_FLOATS // patches[0].numel())
    for first in range(0, count, step):
        some = patches[first : first + step]
        columns = winograd.buffers.take("input", *some.shape).copy_(some).view(-1, 9 * channels)
        sums.addmm_(rows[first : first + step].flatten(0, 1).t(), columns)
    return sums.view(out_channels, 3, 3, channels).permute(0, 3, 1, 2)


def _gradient_by_taps(x: Tensor, gradient: Tensor, taps: int) -> Tensor:
    """The gradient of a temporal filter, (K, C, taps, 1), from x (B, C, T, places) and dY (B, K, T, places).

    A tap reads the chunk `shift` later than the one it writes, if there is one.
    """
    chunks, places = x.shape[2:]
    read, written = (tensor.permute(0, 2, 3, 1).flatten(1, 2) for tensor in (x, gradient))  # (B, T * places, channels)
    sums = x.new_zeros(taps, gradient.shape[1], x.shape[1])
    for tap in range(taps):
        shift = tap - taps // 2
        first, last = max(0, -shift) * places, min(chunks, chunks - shift) * places
        for source, target in zip(read, written, strict=True):
            if first < last:
                sums[tap].addmm_(target[first:last].t(), source[first + shift * places : last + shift * places])
    return sums.permute(1, 2, 0).unsqueeze(-1)
