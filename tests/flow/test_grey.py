"""Grey frames are weighted sums that are computed pixel by pixel, so they are the same on any device and in any batch."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stmn.flow.grey import to_grey


class Operations(TorchDispatchMode):
    """Writes down the names of torch's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def frames_of(dtype: torch.dtype, channels_first: bool) -> Tensor:
    frames = torch.randint(0, 256, (5, 33, 47, 3), dtype=torch.uint8).to(dtype)
    return frames.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) if channels_first else frames


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_grey_is_the_luma_of_each_pixel(dtype, channels_first):
    """To the bit: products are rounded to float32, and added from red to blue."""
    frames = frames_of(dtype, channels_first)
    red, green, blue = (frames[..., c].numpy().astype(np.float32) for c in range(3))
    luma = red * np.float32(0.299) + green * np.float32(0.587) + blue * np.float32(0.114)
    assert torch.equal(to_grey(frames), torch.from_numpy(luma))


def test_grey_is_no_matrix_product():
    """cuBLAS would choose its kernel, and so the order of sums, by the size of the batch."""
    frames = frames_of(torch.uint8, channels_first=False)
    with Operations() as operations:
        to_grey(frames)
    assert "mul" in operations.names
    assert not operations.names & {"mv", "mm", "addmv", "addmm", "bmm", "matmul", "dot"}
