"""3x3 convolutions with a quarter of the multiplications, on a CPU: Winograd's F(4x4, 3x3) (Lavin and Gray, CVPR 2016).

A C kernel transforms tiles of the input and of the output; between the two lies a batched matrix product, PyTorch's
own. The result differs from a direct convolution's by rounding, some 1e-6 of the largest value.
"""

import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from stmn.compiled import Kernel, once_a_process

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
KERNEL = Kernel("winograd", "stmn.nets", FLAGS)

#: side of a tile of the output, values of a tile of the input, channels a vector holds, most channels
OUT, VALUES, WIDTH, MOST = 4, 36, 8, 4096
#: floats of the transformed tiles that are worked on at a time: they stay in the processor's cache
AT_A_TIME = 2**22
#: fewer tiles are convolved directly: the transformed kernels, four times the weights, are read for each product
LEAST_TILES = 32

#: G of F(4x4, 3x3): a 3x3 kernel g becomes G g G^T
G = (
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)  # fmt: skip

#: memory for tiles, each thread's own
memory = threading.local()


@once_a_process(KERNEL)
def load(library: ctypes.CDLL) -> None:
    """The kernel, or why there is none."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.tiles_in.argtypes = [pointer, pointer, *[size] * 7]
    library.tiles_out.argtypes = [pointer, pointer, pointer, *[size] * 8]
    library.tiles_in.restype = library.tiles_out.restype = None


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


def fits(conv: nn.Conv2d) -> bool:
    """True for what the kernel knows: 3x3, stride 1, padding 1, no groups, channels in eights."""
    return (
        conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.dilation == (1, 1) and conv.groups == 1
        and conv.padding in ((1, 1), "same") and conv.padding_mode == "zeros"
        and all(c % WIDTH == 0 and c <= MOST for c in (conv.in_channels, conv.out_channels))
        and conv.weight.dtype == torch.float32 and conv.weight.device.type == "cpu"
    )  # fmt: skip


def pays(tiles: int, height: int, width: int, count: int) -> bool:
    """True where it is faster (docs/evaluation.md): enough tiles for the matrix products, and not too much of them
    beyond the picture's edge."""
    return tiles >= LEAST_TILES and 2 * VALUES * tiles <= 9 * height * width * count


class WinogradConv2d(nn.Module):
    """A 3x3 convolution of stride 1 for testing, with a ReLU behind it or none; made of a convolution that `fits`.

    (N, C, H, W) to (N, K, H, W) in channels_last, float32, on a CPU, without a gradient. Pictures that are too few
    or too small to pay are convolved directly.
    """

    kernels: Tensor

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        self.direct, self.relu = conv, relu
        g = torch.tensor(G)
        with torch.no_grad():
            transformed = torch.kron(g, g) @ conv.weight.permute(2, 3, 0, 1).flatten(2).flatten(0, 1)  # (36, K * C)
            kernels = transformed.unflatten(1, conv.weight.shape[:2]).transpose(1, 2)
            self.register_buffer("kernels", kernels.contiguous())
            if conv.bias is None:
                conv.bias = nn.Parameter(torch.zeros(conv.out_channels), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution."""
        count, _, height, width = x.shape
        tiles = count * -(-height // OUT) * -(-width // OUT)
        if not pays(tiles, height, width, count):
            y: Tensor = self.direct(x)
            return y.relu_() if self.relu else y
        return self.transformed(x.contiguous(memory_format=torch.channels_last), tiles)

    def transformed(self, x: Tensor, tiles: int) -> Tensor:
        """The same by transforms: blocks of tiles, one after the other, each shared among the threads."""
        library, why_not = load()
        assert library is not None, why_not
        bias, out = self.direct.bias, self.direct.out_channels
        assert bias is not None
        count, channels, height, width = x.shape
        y = torch.empty((count, out, height, width), memory_format=torch.channels_last)
        block, threads = min(tiles, max(64, AT_A_TIME // (VALUES * max(channels, out)))), torch.get_num_threads()
        for first in range(0, tiles, block):
            rows = min(block, tiles - first)
            v = scratch("v", VALUES * rows * channels).view(VALUES, rows, channels)
            m = scratch("m", VALUES * rows * out).view(VALUES, rows, out)
            cuts = [first + rows * i // threads for i in range(threads + 1)]
            shares = [(start, stop - start, first) for start, stop in pairwise(cuts)]
            of_x, of_y = (x.data_ptr(), v.data_ptr()), (m.data_ptr(), y.data_ptr(), bias.data_ptr(), int(self.relu))
            share(library.tiles_in, [(*of_x, height, width, channels, *s, rows * channels) for s in shares])
            torch.bmm(v, self.kernels, out=m)
            share(library.tiles_out, [(*of_y, height, width, out, *s, rows * out) for s in shares])
        return y


def share(work: Callable[..., None], parts: list[tuple[int, ...]]) -> None:
    """Do all parts of `work` at the same time: the first here, the others in helping threads."""
    others = [helpers(len(parts) - 1).submit(work, *part) for part in parts[1:]]
    work(*parts[0])
    for other in others:
        other.result()
