"""Winograd convolutions: 3x3 with a quarter of the multiplications (Lavin and Gray, CVPR 2016).

For a tile d of the input, 6 x 6, and a kernel g, a tile of the output is

    Y = A^T [(G g G^T) (.) (B^T d B)] A.

Y is 4 x 4 for a 3x3 kernel, F(4x4, 3x3), and 3 x 3 for a 4x4 one, F(3x3, 4x4). The gradient of the kernel is
G^T [(A dY A^T) (.) (B^T d B)] G, summed over tiles. A C kernel transforms tiles; the products between the transforms
are PyTorch's batched matrix product. Results differ from a direct convolution's by rounding, about 1e-6 of the largest
value.

Images here are (N, C, H, W) float32 on the CPU, in channels_last.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from stmn.runtime.compiled import Kernel, load_once

#: floats in a vector of the C kernel; channels must be a multiple of it
VECTOR = 8
MAX_CHANNELS = 4096
#: floats of transformed tiles at a time: they stay in the processor's cache
BLOCK_FLOATS = 2**22

_TILE = 6
_VALUES = _TILE**2
#: with fewer tiles a direct convolution is faster: each product reads all transformed kernels, four times the weights
_MIN_TILES = 32
#: factor and point of each row of G; the last row belongs to the point at infinity
_POINTS = ((1 / 4, 0), (-1 / 6, 1), (-1 / 6, -1), (1 / 24, 2), (1 / 24, -2))


@load_once(Kernel("winograd", "stmn.nets.fast"))
def load_kernel(library: ctypes.CDLL) -> None:
    """Load the C kernel."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    for function in (library.stmn_winograd_input, library.stmn_winograd_gradient):
        function.argtypes, function.restype = [pointer, pointer, *[size] * 8], None
    library.stmn_winograd_output.argtypes = [pointer, pointer, pointer, *[size] * 8]
    library.stmn_winograd_output.restype = None


def problem() -> str | None:
    """Return why this machine has no C kernel; None if it has one. The first call loads or compiles it."""
    return load_kernel()[1]


class TileBuffers(threading.local):
    """Reused memory for intermediate results; each thread has its own.

    Getting fresh memory would take as long as filling it.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a float32 tensor with unset values, valid until this thread takes the same name again."""
        count = prod(shape)
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < count:
            with torch.inference_mode(False):  # a tensor made in inference mode can't be written to outside of it
                kept = self._buffers[name] = torch.empty(count)
        return kept[:count].view(shape)


buffers = TileBuffers()


def can_transform(weight: Tensor) -> bool:
    """True if kernels (K, C, h, w) can be transformed: 3x3, and numbers of channels that the C kernel takes."""
    return weight.shape[2:] == (3, 3) and all(
        channels % VECTOR == 0 and channels <= MAX_CHANNELS for channels in weight.shape[:2]
    )


def is_faster(x: Tensor) -> bool:
    """True if a 3x3 convolution of images (N, C, H, W) is faster this way than directly.

    There must be enough tiles for the matrix products, and half of their area must be inside the images.
    docs/decisions/inference-network.md has the times.
    """
    return _MIN_TILES <= _count_tiles(x, 3) <= x.shape[0] * x.shape[2] * x.shape[3] // 8


def transform_kernels(weight: Tensor, turned: bool = False) -> Tensor:
    """Transform 3x3 kernels: G g G^T.

    Args:
        weight: (K, C, 3, 3).
        turned: turn the kernels by 180 degrees first, for the gradient of the input.

    Returns:
        (36, K, C), in a buffer that the next call overwrites.
    """
    return torch.mm(
        _TURNED if turned else _TRANSFORMS[3],
        _kernel_values(weight),
        out=buffers.take("kernels", _VALUES, weight.shape[0] * weight.shape[1]),
    ).view(_VALUES, *weight.shape[:2])


def convolve(x: Tensor, kernels: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """Convolve images with transformed 3x3 kernels, padding 1.

    Args:
        x: (N, C, H, W), in any memory layout.
        kernels: (36, C, K).
        bias: (K,).
        relu: apply a ReLU; NaN stays NaN.

    Returns:
        (N, K, H, W).
    """
    x = x.contiguous(memory_format=torch.channels_last)
    count, channels, height, width = x.shape
    out_channels = kernels.shape[2]
    y = torch.empty((count, out_channels, height, width), memory_format=torch.channels_last)
    for first, tiles in _split_tiles(_count_tiles(x, 3), max(channels, out_channels)):
        given = buffers.take("input", _VALUES, tiles, channels)
        product = buffers.take("output", _VALUES, tiles, out_channels)
        _transform("stmn_winograd_input", (x, given), (4, height, width, channels), first, tiles)
        torch.bmm(given, kernels, out=product)
        _transform("stmn_winograd_output", (product, y, bias), (int(relu), height, width, out_channels), first, tiles)
    return y


def kernel_gradient(x: Tensor, gradient: Tensor, taps: int) -> Tensor:
    """Compute the gradient of the kernels of a convolution with stride 1 that keeps the size.

    Args:
        x: input of the convolution, (N, C, H, W).
        gradient: gradient of its output, (N, K, H, W).
        taps: side of the kernels, 3 or 4.

    Returns:
        (K, C, taps, taps).
    """
    channels, out_channels = x.shape[1], gradient.shape[1]
    side, height, width = _TILE + 1 - taps, *x.shape[2:]
    sums = buffers.take("kernels", _VALUES, out_channels, channels)
    for first, tiles in _split_tiles(_count_tiles(x, taps), max(channels, out_channels)):
        given = buffers.take("input", _VALUES, tiles, channels)
        wanted = buffers.take("output", _VALUES, tiles, out_channels)
        _transform("stmn_winograd_input", (x, given), (side, height, width, channels), first, tiles)
        _transform("stmn_winograd_gradient", (gradient, wanted), (side, height, width, out_channels), first, tiles)
        torch.baddbmm(sums, wanted.transpose(1, 2), given, beta=int(first > 0), out=sums)
    flat = buffers.take("kernel_values", taps * taps, out_channels * channels)
    torch.mm(_TRANSFORMS[taps].t(), sums.view(_VALUES, -1), out=flat)
    by_kernel = flat.view(taps, taps, out_channels, channels).permute(2, 3, 0, 1)
    return by_kernel.contiguous(memory_format=torch.channels_last)


def _kernel_transform(taps: int) -> Tensor:
    """G (x) G, (36, taps^2): from a kernel's values, row by row, to its 36 transformed ones."""
    rows = [[factor * point**power for power in range(taps)] for factor, point in _POINTS]
    g = torch.tensor([*rows, [0.0] * (taps - 1) + [1.0]])
    return torch.kron(g, g)


_TRANSFORMS = {taps: _kernel_transform(taps) for taps in (3, 4)}
#: a kernel turned by 180 degrees has its values in opposite order
_TURNED = _TRANSFORMS[3].flip(1).contiguous()


def _kernel_values(weight: Tensor) -> Tensor:
    """(K, C, taps, taps) to (taps^2, K * C)."""
    return weight.permute(2, 3, 0, 1).reshape(weight.shape[2] ** 2, -1)


def _count_tiles(x: Tensor, taps: int) -> int:
    """The number of tiles of images (N, C, H, W) for kernels of `taps` x `taps`."""
    side = _TILE + 1 - taps
    return x.shape[0] * -(-x.shape[2] // side) * -(-x.shape[3] // side)


def _split_tiles(tiles: int, channels: int) -> Iterator[tuple[int, int]]:
    """Split tiles into blocks: the first tile of each, and its number of tiles."""
    most = min(tiles, max(64, BLOCK_FLOATS // (_VALUES * channels)))
    return ((first, min(most, tiles - first)) for first in range(0, tiles, most))


def _transform(name: str, tensors: tuple[Tensor, ...], sizes: tuple[int, ...], first: int, tiles: int) -> None:
    """Call a function of the C kernel for `tiles` tiles, starting at `first`; the last of `sizes` is the channels."""
    library, problem = load_kernel()
    assert library is not None, problem
    threads = torch.get_num_threads()
    cuts = [first + tiles * i // threads for i in range(threads + 1)]
    pointers = [tensor.data_ptr() for tensor in tensors]
    shares = [(*pointers, *sizes, start, stop - start, first, tiles * sizes[-1]) for start, stop in pairwise(cuts)]
    _run_in_threads(getattr(library, name), shares)


def _run_in_threads(work: Callable[..., None], shares: list[tuple[int, ...]]) -> None:
    """Do all shares of the work in parallel: the first in this thread, the others in helper threads."""
    others = [_helpers(len(shares) - 1).submit(work, *share) for share in shares[1:]]
    work(*shares[0])
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _helpers(count: int) -> ThreadPoolExecutor:
    """Threads that transform tiles."""
    return ThreadPoolExecutor(count, "winograd")
