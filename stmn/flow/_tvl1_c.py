"""TV-L1 in C, for CPU tensors. The kernel is compiled at first use and kept in the user's cache."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import torch
from torch import Tensor

from stmn.flow._parameters import Parameters
from stmn.flow._pyramid import Level, LevelAxis
from stmn.flow._tvl1_library import load


class _Axis(ctypes.Structure):
    """`Axis` of kernel/planes.h."""

    _fields_ = (
        ("size", ctypes.c_int32),
        ("taps", ctypes.c_int32),
        ("start", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("below", ctypes.c_void_p),
        ("fraction", ctypes.c_void_p),
    )

    @classmethod
    def of(cls, axis: LevelAxis) -> "_Axis":
        """Return an axis for C; it must not outlive `axis`."""
        arrays = (axis.start, axis.weights, axis.below, axis.fraction)
        return cls(axis.size, len(axis.weights), *(array.ctypes.data for array in arrays))


class _Parameters(ctypes.Structure):
    """`Parameters` of kernel/planes.h."""

    _fields_ = (
        ("lambda_", ctypes.c_float),
        ("theta", ctypes.c_float),
        ("tau", ctypes.c_float),
        ("epsilon", ctypes.c_float),
        ("warps", ctypes.c_int32),
        ("iterations", ctypes.c_int32),
        ("median", ctypes.c_int32),
        ("levels", ctypes.c_int32),
    )


def solve(first: Tensor, second: Tensor, levels: tuple[Level, ...], parameters: Parameters) -> Tensor:
    """Estimate flow with `torch.get_num_threads()` threads; each pair is computed by one thread.

    Args:
        first: (B, H, W) grey frames, float32 in 0..255, contiguous, on the CPU.
        second: (B, H, W), as `first`.
        levels: The pyramid, finest level first.
        parameters: Parameters of the method.

    Returns:
        (B, 2, H, W) float32: u and v in pixels.

    Raises:
        MemoryError: The kernel could not allocate its buffers.
    """
    kernel, problem = load()
    assert kernel is not None, problem
    pairs, height, width = first.shape
    flow = torch.empty(pairs, 2, height, width)
    axes = (_Axis * (2 * len(levels)))(*(_Axis.of(axis) for level in levels for axis in (level.rows, level.columns)))
    c_parameters = _Parameters(
        parameters.lambda_,
        parameters.theta,
        parameters.tau,
        parameters.epsilon,
        parameters.warps,
        parameters.iterations,
        parameters.median,
        len(levels),
    )

    threads = min(torch.get_num_threads(), pairs)
    # pairs per call: enough to make the cost of a call negligible, few enough that threads finish together
    portion = 1 if height * width > 100_000 else max(1, -(-pairs // (4 * threads))) if threads > 1 else pairs
    starts = count(step=portion)

    def work(_: int) -> int:
        failed = 0
        while (start := next(starts)) < pairs:
            part = slice(start, min(start + portion, pairs))
            failed |= kernel.stmn_tvl1(
                first[part].data_ptr(),
                second[part].data_ptr(),
                flow[part].data_ptr(),
                part.stop - part.start,
                ctypes.byref(c_parameters),
                axes,
            )
        return failed

    if threads <= 1:
        failed = work(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            failed = any(pool.map(work, range(threads)))
    if failed:
        raise MemoryError(f"optical flow of {width}x{height} frames: out of memory")
    return flow
