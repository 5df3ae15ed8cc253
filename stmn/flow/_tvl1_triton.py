"""TV-L1 in Triton, for CUDA tensors: several inner iterations per launch, without waiting for the GPU in between.

The arithmetic is that of `_tvl1_torch.py`; read that first. It is fast because it moves little memory: an iteration in
torch reads and writes about a hundred planes; the kernel `iterate` reads nine and writes six for several iterations.

`docs/cuda.md` estimates the speed of a GPU.

Triton's interpreter (`TRITON_INTERPRET=1`) runs the same kernels on CPU tensors, for the tests.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from stmn.flow._parameters import Parameters
from stmn.flow._pyramid import Level
from stmn.flow._tables import Taps, tables_of
from stmn.flow._triton_cache import find_triton_cache
from stmn.flow.kernels import is_interpreted
from stmn.runtime.memory import find_shortage


@dataclass(frozen=True)
class Tile:
    """How `iterate` divides its work.

    Attributes:
        rows: Rows of a tile with its halo, a power of 2.
        columns: Columns of a tile with its halo, a power of 2.
        halo: Rows and columns on each side that neighbouring tiles compute too; also the iterations per launch.
        warps: Warps per program.
        block: Pixels per program in the other kernels, which read neighbours from memory; a power of 2.
    """

    rows: int
    columns: int
    halo: int
    warps: int = 4
    block: int = 512


#: three programs of `iterate` fit a multiprocessor of an H100, judging by the compiled code (docs/cuda.md)
TILE = Tile(32, 32, 4)
#: for Triton's interpreter, which takes about the same time for an operation of any size
_LARGE_TILE = Tile(32, 64, 4, block=8192)
#: pairs that are computed together: a grid of CUDA has at most 65,535 rows, and the dual of a pair is four planes
_MOST_PAIRS = 65_535 // 4


def problem(device: torch.device) -> str | None:
    """Return why these kernels can't run on a device; None if they can. The first call on a device tries a kernel.

    If other processes have taken the GPU's memory, the next call tries again.
    """
    try:
        return _find_problem(device)
    except (MemoryError, RuntimeError) as error:
        return _tell_failure(error)


@cache
def _find_problem(device: torch.device) -> str | None:
    """Find the problem, once; a memory shortage is raised instead, so the cache does not keep it."""
    if device.type != "cuda" and not is_interpreted():
        return f"Triton's kernels run on CUDA devices, not on {device.type}"
    if find_spec("triton") is None:
        return "the package triton is not installed"
    if device.type == "cuda":
        find_triton_cache()
    try:
        if not hasattr(import_module("triton.language"), "gather"):
            return f"triton {import_module('triton').__version__} is too old, it has no gather"
        moving = torch.ones(1, dtype=torch.int32, device=device)
        with _on(device):
            _kernel("median", "settle")[(1,)](torch.zeros(1, 1, device=device), moving, 1, 1.0, BLOCK=256)
        return None if moving.item() == 0 else "a kernel of Triton gives a wrong result"
    except Exception as error:  # from Triton, the compiler that it calls, or a GPU that is too old
        if find_shortage(error):
            raise
        return _tell_failure(error)


def _tell_failure(error: Exception) -> str:
    """Return the first line of Triton's error."""
    return f"Triton fails: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"


@torch.no_grad()
def solve(
    first: Tensor, second: Tensor, levels: tuple[Level, ...], parameters: Parameters, tile: Tile | None = None
) -> Tensor:
    """Estimate flow. All work is queued on the current stream; nothing waits for the GPU.

    Args:
        first: (B, H, W) grey frames, float32 in 0..255, contiguous.
        second: (B, H, W), as `first`.
        levels: The pyramid, finest level first.
        parameters: Parameters of the method.
        tile: How the work is divided.

    Returns:
        (B, 2, H, W) float32: u and v in pixels.
    """
    device = first.device
    tile = tile or (TILE if device.type == "cuda" else _LARGE_TILE)
    parts = zip(first.split(_MOST_PAIRS), second.split(_MOST_PAIRS), strict=True)
    with _on(device):
        solved = [_solve(*part, levels, parameters, tile) for part in parts]
    return solved[0] if len(solved) == 1 else torch.cat(solved)


def _solve(first: Tensor, second: Tensor, levels: tuple[Level, ...], parameters: Parameters, tile: Tile) -> Tensor:
    """Do `solve` on the current device."""
    device = first.device
    images, frames = torch.stack([first, second]), []
    for level in levels:
        rows, columns = (tables_of(axis, device).shrink for axis in (level.rows, level.columns))
        images = _resample(images, rows, columns, tile.block)
        frames.append(images)
    flow = first.new_zeros(len(first), 2, *levels[-1].shape)
    dual = first.new_zeros(len(first), 4, *levels[-1].shape)
    for level, (one, other) in zip(reversed(levels), reversed(frames), strict=True):
        if level.shape != flow.shape[-2:]:
            rows, columns = (tables_of(axis, device).enlarge for axis in (level.rows, level.columns))
            height, width = flow.shape[-2:]
            flow, dual = _resample(flow, rows, columns, tile.block), _resample(dual, rows, columns, tile.block)
            flow[:, 0] *= level.columns.size / width  # displacements are in the level's pixels
            flow[:, 1] *= level.rows.size / height
        _solve_level(one, other, flow, dual, level, parameters, tile)
    return flow


def _solve_level(
    first: Tensor, second: Tensor, flow: Tensor, dual: Tensor, level: Level, parameters: Parameters, tile: Tile
) -> None:
    """Run the warps of one level: images (B, H, W); flow (B, 2, H, W) and dual (B, 4, H, W) are overwritten."""
    batch, height, width = first.shape
    rows, columns = (tables_of(axis, first.device).spline for axis in (level.rows, level.columns))
    spline = _resample(second, rows, columns, tile.block)
    linear = first.new_empty(batch, 3, height, width)
    spare = [(torch.empty_like(flow), torch.empty_like(dual)) for _ in range(2)]
    moving = torch.ones(batch, dtype=torch.int32, device=first.device)
    blocks = -(-height * width // tile.block)
    change = first.new_empty(batch, blocks)
    least = parameters.epsilon**2 * height * width
    tiles = -(-height // (tile.rows - 2 * tile.halo)) * -(-width // (tile.columns - 2 * tile.halo))
    for _ in range(parameters.warps):
        _kernel("warp", "linearise")[blocks, batch](
            first, spline, flow, linear, moving, height, width, BLOCK=tile.block
        )
        source = (flow, dual)
        launches = _launches(parameters.iterations, tile.halo)
        for number, steps in enumerate(launches):
            fresh, fresh_dual = spare[number % 2]
            if number == len(launches) - 1:
                fresh_dual = dual  # nothing reads it any more; a converged pair keeps its own
            _kernel("iterate", "iterate")[tiles, batch](
                *source, linear, fresh, fresh_dual, moving, steps, height, width, parameters.lambda_ * parameters.theta,
                parameters.theta, parameters.tau / parameters.theta, HALO=tile.halo, ROWS=tile.rows,
                COLUMNS=tile.columns, num_warps=tile.warps,
            )  # fmt: skip
            source = (fresh, fresh_dual)
        _kernel("median", "update")[blocks, batch](
            source[0], flow, change, moving, height, width, MEDIAN=parameters.median, BLOCK=tile.block
        )
        _kernel("median", "settle")[(batch,)](change, moving, blocks, least, BLOCK=256)


def _launches(iterations: int, most: int) -> list[int]:
    """Return the number of iterations of each launch, at most `most`, as even as possible.

    There are at least two launches: the first reads the dual of a pair, and the last overwrites it.
    """
    count = max(2, -(-iterations // most))
    return [iterations // count + (number < iterations % count) for number in range(count)]


def _resample(fields: Tensor, rows: Taps, columns: Taps, block: int) -> Tensor:
    """Sample fields (..., h, w) along both axes: (..., H, W)."""
    for taps, along_x in ((rows, False), (columns, True)):
        height, width = fields.shape[-2:]
        count, size = taps.places.shape
        shape = (height, size) if along_x else (size, width)
        out = fields.new_empty(*fields.shape[:-2], *shape)
        planes = out.shape[:-2].numel()
        _kernel("sample", "sample_axis")[-(-shape[0] * shape[1] // block), planes](
            fields, out, taps.places, taps.weights, count, height, width, *shape, ALONG_X=along_x, BLOCK=block
        )
        fields = out
    return fields


@cache
def _kernel(module: str, name: str) -> Any:
    """Return a kernel; Triton is imported for the first one."""
    return getattr(import_module(f"stmn.flow.triton_kernel.{module}"), name)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which a CUDA device is the current one, where Triton launches."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
