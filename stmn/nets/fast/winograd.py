"""3x3 convolutions with a quarter of the multiplications, on a CPU: Winograd's F(4x4, 3x3) (Lavin and Gray, CVPR 2016).

A C kernel transforms tiles of the input and of the output; between the two lies a batched matrix product, PyTorch's
own. The result differs from a direct convolution's by rounding, some 1e-6 of the largest value.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from stmn.runtime.compiled import Kernel, load_once

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
KERNEL = Kernel("winograd", "stmn.nets.fast", FLAGS)

#: values of a tile of the input, 6 x 6; channels a vector holds, most channels
VALUES, WIDTH, MOST = 36, 8, 4096
#: floats of the transformed tiles that are worked on at a time: they stay in the processor's cache
AT_A_TIME = 2**22
#: fewer tiles are convolved directly: the transformed kernels, four times the weights, are read for each product
LEAST_TILES = 32

#: G's rows belong to the points 0, 1, -1, 2, -2 and infinity: factor, point
POINTS = ((1 / 4, 0), (-1 / 6, 1), (-1 / 6, -1), (1 / 24, 2), (1 / 24, -2))

#: memory for tiles, each thread's own
memory = threading.local()


@load_once(KERNEL)
def load(library: ctypes.CDLL) -> None:
    """The kernel, or why there is none."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    for function in (library.stmn_winograd_input, library.stmn_winograd_gradient):
        function.argtypes, function.restype = [pointer, pointer, *[size] * 8], None
    library.stmn_winograd_output.argtypes = [pointer, pointer, pointer, *[size] * 8]
    library.stmn_winograd_output.restype = None


def problem() -> str | None:
    """Why there is no kernel on this machine; None when there is one."""
    return load()[1]


@lru_cache(maxsize=1)
def helpers(count: int) -> ThreadPoolExecutor:
    """Threads that transform tiles."""
    return ThreadPoolExecutor(count, "winograd")


def scratch(name: str, count: int) -> Tensor:
    """(count,) float32 of this thread's memory, its values unset; fresh memory would cost as much as the transform."""
    kept: Tensor | None = getattr(memory, name, None)
    if kept is None or kept.numel() < count:
        with torch.inference_mode(False):  # else nobody could write there outside of it, ever
            kept = torch.empty(count)
        setattr(memory, name, kept)
    return kept[:count]


def transformable(
    weight: Tensor, stride: object, padding: object, dilation: object = 1, groups: int = 1, padding_mode: str = "zeros"
) -> bool:
    """True for a convolution that there is a transform for: 3x3, stride 1, padding 1, no groups, channels in eights,
    float32 on a CPU."""
    ones = ((1, 1), [1, 1], 1)
    return (
        weight.shape[2:] == (3, 3) and stride in ones and padding in (*ones, "same") and dilation in ones
        and groups == 1 and padding_mode == "zeros" and all(c % WIDTH == 0 and c <= MOST for c in weight.shape[:2])
        and weight.dtype == torch.float32 and weight.device.type == "cpu"
    )  # fmt: skip


def pays(x: Tensor) -> bool:
    """True where it is faster: enough tiles for the matrix products, and not too much of them beyond the edge of the
    pictures (N, C, H, W). docs/decisions/inference-network.md has the times."""
    return LEAST_TILES <= tiles_of(x) <= x.shape[0] * x.shape[2] * x.shape[3] // 8


def matrix(taps: int) -> Tensor:
    """G (x) G, (36, taps^2): a kernel's values, row by row, to its 36."""
    rows = [[factor * point**power for power in range(taps)] for factor, point in POINTS]
    g = torch.tensor([*rows, [0.0] * (taps - 1) + [1.0]])
    return torch.kron(g, g)


#: for kernels of 3x3 and 4x4
MATRICES = {taps: matrix(taps) for taps in (3, 4)}


class WinogradConv2d(nn.Module):
    """A `transformable` convolution for testing, with a ReLU behind it or none.

    (N, C, H, W) to (N, K, H, W) in channels_last, float32, on a CPU, without a gradient. Pictures that are too few
    or too small to pay are convolved directly.
    """

    kernels: Tensor

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        self.direct, self.relu = conv, relu
        with torch.no_grad():
            transformed = torch.mm(MATRICES[3], values(conv.weight)).view(VALUES, *conv.weight.shape[:2])
            self.register_buffer("kernels", transformed.transpose(1, 2))
            if conv.bias is None:
                conv.bias = nn.Parameter(torch.zeros(conv.out_channels), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution."""
        if not pays(x):
            y: Tensor = self.direct(x)
            return y.relu_() if self.relu else y
        assert self.direct.bias is not None
        return convolve(x, self.kernels, self.direct.bias, self.relu)


def values(weight: Tensor) -> Tensor:
    """(K, C, taps, taps) to (taps^2, K * C)."""
    return weight.permute(2, 3, 0, 1).reshape(weight.shape[2] ** 2, -1)


def tiles_of(x: Tensor, taps: int = 3) -> int:
    """How many tiles (N, C, H, W) pictures have for a kernel of `taps` x `taps`."""
    return x.shape[0] * -(-x.shape[2] // (7 - taps)) * -(-x.shape[3] // (7 - taps))


def convolve(x: Tensor, kernels: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """(N, C, H, W) with transformed kernels (36, C, K) and a bias (K,): (N, K, H, W) in channels_last.

    Block by block of tiles, each shared among the threads.
    """
    x, out = x.contiguous(memory_format=torch.channels_last), kernels.shape[2]
    count, channels, height, width = x.shape
    y = torch.empty((count, out, height, width), memory_format=torch.channels_last)
    for first, rows in blocks(tiles_of(x), max(channels, out)):
        v, m = (scratch(name, VALUES * rows * c).view(VALUES, rows, c) for name, c in (("v", channels), ("m", out)))
        transform("stmn_winograd_input", (x, v), (4, height, width, channels), first, rows)
        torch.bmm(v, kernels, out=m)
        transform("stmn_winograd_output", (m, y, bias), (int(relu), height, width, out), first, rows)
    return y


def blocks(tiles: int, channels: int) -> Iterator[tuple[int, int]]:
    """First tile and number of tiles of what is worked on at a time."""
    most = min(tiles, max(64, AT_A_TIME // (VALUES * channels)))
    return ((first, min(most, tiles - first)) for first in range(0, tiles, most))


def transform(name: str, tensors: tuple[Tensor, ...], sizes: tuple[int, ...], first: int, rows: int) -> None:
    """Call the kernel's function for tiles `first` ... first + rows - 1; the last of `sizes` is the channels'."""
    library, why_not = load()
    assert library is not None, why_not
    pointers = tuple(tensor.data_ptr() for tensor in tensors)
    cuts = [first + rows * i // torch.get_num_threads() for i in range(torch.get_num_threads() + 1)]
    parts = [(*pointers, *sizes, start, stop - start, first, rows * sizes[-1]) for start, stop in pairwise(cuts)]
    share(getattr(library, name), parts)


def share(work: Callable[..., None], parts: list[tuple[int, ...]]) -> None:
    """Do all parts of `work` at the same time: the first here, the others in helping threads."""
    others = [helpers(len(parts) - 1).submit(work, *part) for part in parts[1:]]
    work(*parts[0])
    for other in others:
        other.result()
