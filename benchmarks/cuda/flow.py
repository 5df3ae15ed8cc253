"""TV-L1 on a GPU: pairs per second of each way to compute it, beside what its traffic allows.

The first rows do the same work: no level ends early. `as_prepare` has colour frames and early ends, as `prepare` has.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.cuda._gpu import attempt, beside_limit, copy_bandwidth, seconds_of
from stmn.flow import _tvl1_torch, _tvl1_triton
from stmn.flow._parameters import Parameters
from stmn.flow._pyramid import Level, pyramid
from stmn.flow._tvl1_triton import TILE, Tile
from stmn.flow.backend import describe_flow
from stmn.flow.pairs import compute_levels
from stmn.flow.tvl1 import tvl1
from stmn.runtime.device import Device

#: pairs of a batch, and the height and width of prepared UCF101
PAIRS, SIZE = 128, (256, 340)
#: divisions of the inner iterations that are tried beside the one in use
TILES = (Tile(32, 64, 4, 8), Tile(64, 32, 4, 8), Tile(64, 64, 4, 16), Tile(32, 32, 3, 4), Tile(32, 64, 6, 8))
DEFAULTS = Parameters(0.15, 0.3, 0.25, 0.5, 8, 3, 12, 3, 0.45, 0.0)
#: pairs per second
GOAL = 5000
Solve = Callable[[Tensor, Tensor], Tensor]


def measure(device: Device, quick: bool) -> dict[str, Any]:
    """Pairs per second of each solver on one batch, and the largest difference from the CPU's flow."""
    where = device.device
    height, width = (24, 32) if quick else SIZE
    pairs = 2 if quick else PAIRS
    parameters = replace(DEFAULTS, warps=1, iterations=2) if quick else DEFAULTS
    levels = pyramid(height, width, parameters.scale, parameters.scales, parameters.smoothing)
    frames = moving_frames(pairs + 1, height, width, where)
    first, second = frames[:-1].contiguous(), frames[1:].contiguous()
    bandwidth = copy_bandwidth(where, quick)
    rounds = {"warm_up": 1, "rounds": 1} if quick else {}

    def row(solve: Solve, moved: float, graph: bool = False) -> dict[str, Any]:
        limit = f"{moved / 1e6:.0f} MB a pair at the bandwidth of a copy"

        def time_solver() -> dict[str, Any]:
            solver = capture(solve, first, second) if graph else solve
            speed = pairs / seconds_of(lambda: solver(first, second), where, **rounds)
            return beside_limit(speed, bandwidth / moved, "pairs/s", limit)

        return attempt(time_solver, where)

    def in_torch(one: Tensor, other: Tensor) -> Tensor:
        return _tvl1_torch.solve(one, other, levels, parameters)

    operations = moved_by_operations(lambda: in_torch(first[:1], second[:1]))
    result: dict[str, Any] = {
        "goal": GOAL, "pairs": pairs, "size": [width, height], "in_use": describe_flow("tvl1", where),
        "torch": row(in_torch, operations),
    }  # fmt: skip
    if where.type == "cuda":
        steps, fused = _tvl1_torch.EAGER.compiled(), fused_bytes(levels, parameters)

        def compiled(one: Tensor, other: Tensor) -> Tensor:
            return _tvl1_torch.solve(one, other, levels, parameters, steps)

        result["torch_graph"] = row(in_torch, operations, graph=True)
        result["torch_compiled"] = row(compiled, fused)
        result["torch_compiled_graph"] = row(compiled, fused, graph=True)
    if _tvl1_triton.problem(where) is None:
        result |= measure_triton(row, first, second, levels, parameters)
    colour = frames.round().to(torch.uint8)[..., None].expand(-1, -1, -1, 3).contiguous()

    def as_prepare() -> dict[str, Any]:
        seconds = seconds_of(lambda: compute_levels(colour, tvl1, 20.0, "keep"), where, **rounds)
        return {"measured": round(pairs / seconds, 1), "unit": "pairs/s"}

    return result | {"as_prepare": attempt(as_prepare, where)}


def measure_triton(
    row: Callable[..., dict[str, Any]], first: Tensor, second: Tensor, levels: tuple[Level, ...],
    parameters: Parameters,
) -> dict[str, Any]:  # fmt: skip
    """A row for each division into tiles, and one for a CUDA graph of the division in use."""
    result = {}
    given = vars(parameters)
    reference = tvl1(first[:4].cpu(), second[:4].cpu(), **given)
    for tile in (TILE, *TILES):

        def solve(one: Tensor, other: Tensor, tile: Tile = tile) -> Tensor:
            return _tvl1_triton.solve(one, other, levels, parameters, tile)

        name = f"triton_{tile.rows}x{tile.columns}_halo{tile.halo}_warps{tile.warps}"
        result[name] = row(solve, triton_bytes(levels, parameters, tile))
        if "error" not in result[name]:
            apart = (solve(first[:4], second[:4]).cpu() - reference).abs().max().item()
            result[name]["largest_difference_pixels"] = apart

    def solve_in_use(one: Tensor, other: Tensor) -> Tensor:
        return _tvl1_triton.solve(one, other, levels, parameters)

    return result | {"triton_graph": row(solve_in_use, triton_bytes(levels, parameters, TILE), graph=True)}


def moving_frames(count: int, height: int, width: int, device: torch.device) -> Tensor:
    """(count, height, width) grey frames of waves that move by (1.3, -0.6) pixels per frame."""
    t = torch.arange(count, dtype=torch.float32)[:, None, None]
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    x, y = x - 1.3 * t, y + 0.6 * t
    return (127 + 40 * torch.sin(x / 4 + y / 9) + 40 * torch.sin(y / 5 - x / 11) + 30 * torch.sin(x / 2.5)).to(device)


def capture(solve: Solve, first: Tensor, second: Tensor) -> Solve:
    """The solver as a CUDA graph for these frames."""
    side = torch.cuda.Stream(first.device)
    side.wait_stream(torch.cuda.current_stream(first.device))
    with torch.cuda.stream(side):
        solve(first, second)  # compiles, and makes the tables
    torch.cuda.current_stream(first.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        flow = solve(first, second)

    def replay(one: Tensor, other: Tensor) -> Tensor:
        graph.replay()
        return flow

    return replay


class _Traffic(TorchDispatchMode):
    """Adds up the bytes that operations read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            leaves, _ = torch.utils._pytree.tree_flatten((args, kwargs or {}, result))
            self.bytes += sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))
        return result


def moved_by_operations(work: Callable[[], object]) -> float:
    """Bytes that the operations of a piece of work read and write, each by itself."""
    with _Traffic() as traffic:
        work()
    return float(traffic.bytes)


def fused_bytes(levels: tuple[Level, ...], parameters: Parameters) -> float:
    """Bytes of the inner iterations for a pair if each is two kernels, one for (4) and (5) and one for (6)."""
    planes = (2 + 4 + 2 + 1 + 1 + 2) + (2 + 4 + 4)
    return float(count_pixels(levels) * parameters.warps * parameters.iterations * 4 * planes)


def triton_bytes(levels: tuple[Level, ...], parameters: Parameters, tile: Tile) -> float:
    """Bytes that Triton's kernels move for a pair, if each pixel of a tile's halo comes from a cache."""
    inner = 4 * (9 + 6) * len(_tvl1_triton._launches(parameters.iterations, tile.halo))
    outer = 4 * (2 + 1 + 1 + 3) + 4 * (2 + 2 + 2)  # `linearise` and `update`
    once = 4 * (2 * 2 + 2 * 2 + 2 * 2 + 2 * 12)  # both frames shrunk, a spline, flow and dual enlarged, in two passes
    return float(count_pixels(levels) * (parameters.warps * (inner + outer) + once))


def count_pixels(levels: tuple[Level, ...]) -> int:
    """The pixels of all levels."""
    return sum(height * width for height, width in (level.shape for level in levels))
