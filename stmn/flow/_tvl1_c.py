"""The C kernel of TV-L1: compiled at first use, kept in the user's cache, called on CPU tensors."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import torch
from torch import Tensor

from stmn.flow._knobs import Knobs
from stmn.flow._pyramid import Axis, Level
from stmn.runtime.compiled import Kernel, load_once

# No -ffast-math: linking with it switches denormals off for the whole process. These are the parts the vectoriser
# needs, and none of them lets the order of a sum change.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros")


KERNEL = Kernel("tvl1", "stmn.flow", FLAGS)


class _Axis(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_int32),
        ("taps", ctypes.c_int32),
        ("start", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("below", ctypes.c_void_p),
        ("fraction", ctypes.c_void_p),
    )

    @classmethod
    def of(cls, axis: Axis) -> "_Axis":
        arrays = (axis.start, axis.weights, axis.below, axis.fraction)
        return cls(axis.size, len(axis.weights), *(array.ctypes.data for array in arrays))


class _Knobs(ctypes.Structure):
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


def solve(first: Tensor, second: Tensor, levels: tuple[Level, ...], knobs: Knobs) -> Tensor:
    """Flow (B, 2, H, W) of frames (B, H, W), float32 in 0..255, on the CPU. Only where `problem()` is None.

    Pairs are shared out among `torch.get_num_threads()` threads; one pair is always one thread's work.
    """
    kernel, problem = _load()
    assert kernel is not None, problem
    pairs, height, width = first.shape
    flow = torch.empty(pairs, 2, height, width)
    axes = (_Axis * (2 * len(levels)))(*(_Axis.of(axis) for level in levels for axis in (level.rows, level.columns)))
    c_knobs = _Knobs(
        knobs.lambda_,
        knobs.theta,
        knobs.tau,
        knobs.epsilon,
        knobs.warps,
        knobs.iterations,
        knobs.median,
        len(levels),
    )

    threads = min(torch.get_num_threads(), pairs)
    # Large enough that a call costs nothing beside its work, small enough that threads end together.
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
                ctypes.byref(c_knobs),
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


def problem() -> str | None:
    """Why there is no C kernel here, or None when there is. The first call of a process loads or compiles it."""
    return _load()[1]


@load_once(KERNEL)
def _load(library: ctypes.CDLL) -> None:
    """The compiled kernel, or why there is none."""
    library.stmn_tvl1.argtypes = (*[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    library.stmn_tvl1.restype = ctypes.c_int
