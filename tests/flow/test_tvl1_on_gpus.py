"""TV-L1 for CUDA devices: Triton's kernels, run here by Triton's interpreter, and the torch solver without waiting."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers.waves import TVL1_OPTIONS, moved
from torch import Tensor
from torch._subclasses import FakeTensorMode

from stmn.flow import _tables, _tvl1_torch, _tvl1_triton
from stmn.flow._parameters import Parameters
from stmn.flow._pyramid import pyramid
from stmn.flow.backend import choose_owned, describe_backend
from stmn.flow.kernels import kernel_name, kernel_problem
from stmn.flow.tvl1 import tvl1

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="no triton for this platform")

#: the interpreter needs a millisecond for each operation of each tile: what is run in every test is small
SHORT = [
    ({"scales": 2, "warps": 1, "iterations": 3}, (45, 61)),  # four overlapping tiles, then one
    ({"scales": 1, "warps": 1, "iterations": 1, "median": 5}, (30, 40)),
]

INTERPRET = """
import sys, torch
from stmn.flow.tvl1 import kernel_name, tvl1
assert kernel_name() == "triton"
given = torch.load(sys.argv[1])
torch.save([tvl1(first, second, **options) for first, second, options in given], sys.argv[2])
"""


def interpret(folder: Path, *given: tuple[Tensor, Tensor, dict]) -> list[Tensor]:
    """Flow by Triton's kernels, which its interpreter runs: in a process of its own, as it changes all of Triton."""
    torch.save(list(given), folder / "given.pt")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "STMN_FLOW_KERNEL": "triton"}
    command = [sys.executable, "-c", INTERPRET, str(folder / "given.pt"), str(folder / "flow.pt")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return torch.load(folder / "flow.pt")


def two_pairs(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pairs that move differently, so that one may converge before the other."""
    pairs = [moved(*size, dx, dy, seed=seed) for seed, (dx, dy) in enumerate([(1.3, -0.6), (3.0, 1.0)])]
    first, second = (torch.cat(frames) for frames in zip(*pairs, strict=True))
    return first, second


@needs_triton
def test_tiles_of_iterations_equal_the_reference(tmp_path, monkeypatch):
    given = [(*two_pairs(size), options) for options, size in SHORT]
    found = interpret(tmp_path, *given)
    monkeypatch.setenv("STMN_FLOW_KERNEL", "torch")
    for flow, (first, second, options) in zip(found, given, strict=True):
        assert (flow - tvl1(first, second, **options)).abs().max() < 1e-3


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("options", TVL1_OPTIONS, ids=str)
def test_kernels_equal_the_reference(options, tmp_path, monkeypatch):
    """The bounds are those of the C kernel."""
    first, second = two_pairs((61, 83))
    [flow] = interpret(tmp_path, (first, second, options))
    monkeypatch.setenv("STMN_FLOW_KERNEL", "torch")
    found = (flow - tvl1(first, second, **options)).abs()
    assert found.quantile(0.999) < 1e-2
    assert found.max() < 0.2
    assert found.mean() < 1e-4


@needs_triton
@pytest.mark.slow
def test_any_size_works(tmp_path):
    sizes = [(1, 1), (1, 9), (3, 2), (7, 130), (17, 16)]
    options = {"median": 5, "warps": 1, "iterations": 2}
    found = interpret(tmp_path, *[(*moved(*size), options) for size in sizes])
    assert [flow.shape for flow in found] == [(1, 2, *size) for size in sizes]
    assert all(flow.isfinite().all() for flow in found)


@needs_triton
@pytest.mark.slow
def test_a_pair_is_the_same_in_any_batch(tmp_path):
    """Also where one pair has converged and others go on."""
    options = {"scales": 1, "warps": 3, "iterations": 4, "epsilon": 0.2}
    pairs = [moved(30, 33, 0.9 * k, -0.3 * k, seed=k) for k in range(3)]
    together = tuple(torch.cat(frames) for frames in zip(*pairs, strict=True))
    flow, *alone = interpret(tmp_path, (*together, options), *[(*pair, options) for pair in pairs])
    assert torch.equal(flow, torch.cat(alone))


def test_no_launch_exceeds_the_largest_grid_of_cuda(monkeypatch):
    """A grid has at most 65,535 programs along its second axis. Launches of tiny frames are written down here."""
    grids: list[tuple[int, ...]] = []

    class Recorder:
        def __getitem__(self, grid: tuple[int, ...]):
            grids.append(grid)
            return lambda *_, **__: None

    monkeypatch.setenv("STMN_FLOW_KERNEL", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(_tvl1_triton, "_kernel", lambda *_: Recorder())
    frames = torch.zeros(16_400, 17, 17, dtype=torch.uint8)
    assert tvl1(frames, frames, scale=0.95, scales=2, warps=1).shape == (16_400, 2, 17, 17)
    assert max(grid[1] for grid in grids if len(grid) > 1) <= 65_535
    assert sum(grid[0] for grid in grids if len(grid) == 1) == 2 * 16_400, "each pair settles on both levels"


def test_torch_never_waits_for_a_gpu(monkeypatch):
    """A fake CUDA tensor has no values: whatever asks for one raises. So a CUDA graph can hold the whole solver."""
    monkeypatch.setenv("STMN_FLOW_KERNEL", "torch")
    _tables.tables_of.cache_clear()
    try:
        with FakeTensorMode():
            frames = torch.zeros(3, 40, 50, dtype=torch.uint8, device="cuda")
            flow = tvl1(frames, frames, scales=2, warps=2, iterations=1, median=5)
    finally:
        _tables.tables_of.cache_clear()  # its tables are fake too
    assert flow.shape == (3, 2, 40, 50)
    assert flow.device.type == "cuda"


@pytest.mark.slow
def test_compiled_torch_equals_the_reference():
    """What `torch.compile` makes of the steps, here for a CPU, at all levels with one compilation each."""
    first, second = two_pairs((61, 83))
    parameters = Parameters(0.15, 0.3, 0.25, 0.5, 8, 3, 12, 5, 0.45, 0.01)
    levels = pyramid(61, 83, parameters.scale, parameters.scales, parameters.smoothing)
    compiled = _tvl1_torch.solve(first, second, levels, parameters, _tvl1_torch.EAGER.compiled())
    assert (compiled - _tvl1_torch.solve(first, second, levels, parameters)).abs().max() < 1e-3


def test_a_line_says_what_computes(monkeypatch):
    monkeypatch.setenv("STMN_FLOW_KERNEL", "torch")
    assert describe_backend("cpu").startswith("tvl1 by torch on the CPU (")


def test_memory_that_is_short_for_a_moment_takes_no_kernel_away(monkeypatch):
    """Another program holds the memory of the GPU while it is tried; the next call tries it again."""
    pytest.importorskip("triton")

    def refuse(*_: object, **__: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    device = "cuda:7"  # which no other test has tried
    with monkeypatch.context() as now:
        now.setattr(torch, "ones", refuse)
        assert "out of memory" in kernel_problem(device)
    assert "out of memory" not in kernel_problem(device)


COMPILE = """
import inspect, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from stmn.flow import _tvl1_triton
from stmn.flow.triton_kernel import iterate, median, sample, warp

PLANES = {"source", "out", "weights", "first", "spline", "flow", "linear", "dual", "flow_out", "dual_out", "fresh", "change"}
WHOLE = {"count", "height", "width", "out_height", "out_width", "steps", "tiles"}
TILE = _tvl1_triton.TILE
CONSTANTS = {
    "HALO": TILE.halo, "ROWS": TILE.rows, "COLUMNS": TILE.columns, "BLOCK": TILE.block, "MEDIAN": 5, "ALONG_X": True
} | {name: int(value) for name, value in (word.split("=") for word in sys.argv[2:])}
for kernel in (sample.sample_axis, warp.linearise, iterate.iterate, median.update, median.settle):
    names = inspect.signature(kernel.fn).parameters
    types = {n: "constexpr" if n in CONSTANTS else "*fp32" if n in PLANES else "*i32" if n in {"moving", "taps"} else
             "i32" if n in WHOLE else "fp32" for n in names}
    given = {n: CONSTANTS[n] for n in names if n in CONSTANTS}
    made = triton.compile(ASTSource(kernel, types, given), target=GPUTarget("cuda", int(sys.argv[1]), 32))
    print(kernel.fn.__name__, len(made.asm["cubin"]) > 1000)
"""


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("given", [
    "75", "80", "90", "100", "120", "90 height=1 width=1 steps=1 tiles=1", "90 MEDIAN=3 ALONG_X=0", "90 MEDIAN=0",
])  # fmt: skip
def test_kernels_compile_for_gpus_that_are_not_here(given, tmp_path):
    """By their compute capability. Triton makes constants of sizes that are 1."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    run = subprocess.run(
        [sys.executable, "-c", COMPILE, *given.split()], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [
        "sample_axis", "True", "linearise", "True", "iterate", "True", "update", "True", "settle", "True",
    ]  # fmt: skip


COMPILE_ONE = """
import os, sys
from stmn.flow.kernels import kernel_problem
print(kernel_problem("cuda"))
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from stmn.flow.triton_kernel.median import settle
types = {"change": "*fp32", "moving": "*i32", "tiles": "i32", "least": "fp32", "BLOCK": "constexpr"}
triton.compile(ASTSource(settle, types, {"BLOCK": 256}), target=GPUTarget("cuda", 90, 32))
"""


@needs_triton
@pytest.mark.parametrize("writable", ["home", "cache", "temporary"])
def test_triton_keeps_its_kernels_where_it_can_write(writable, tmp_path):
    """As in a container with a home folder that can't be written: here it is a file, which not even root can write in."""
    (tmp_path / "file").touch()
    home = tmp_path / ("home" if writable == "home" else "file")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TRITON_", "XDG_"))}
    environment |= {"HOME": str(home), "TMPDIR": str(tmp_path / "tmp")}
    if writable == "cache":
        environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    (tmp_path / "tmp").mkdir()
    run = subprocess.run([sys.executable, "-c", COMPILE_ONE], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    [kernel] = tmp_path.rglob("settle.cubin")
    where = {"home": "home/.triton/cache", "cache": "cache/stmn/triton", "temporary": f"tmp/stmn-{os.geteuid()}/triton"}
    assert kernel.is_relative_to(tmp_path / where[writable])


def test_a_flow_that_needs_no_gpu_gets_none():
    assert choose_owned("cuda", "tvl1", videos=100, here=False) == ["cuda:0"]
    assert choose_owned("cuda:1,cuda:0,cuda:1", "tvl1", videos=1, here=False) == ["cuda:1", "cuda:0"]
    assert choose_owned("cuda", "farneback", videos=100, here=False) == []
    assert choose_owned("auto", "tvl1", videos=100, here=False) == []


@pytest.mark.cuda
@pytest.mark.parametrize("kernel", ["triton", "torch"])
@pytest.mark.parametrize("options", TVL1_OPTIONS, ids=str)
def test_a_gpu_equals_the_cpu(options, kernel, monkeypatch):
    """Within the bounds of the C kernel against the reference."""
    first, second = two_pairs((123, 167))
    reference = tvl1(first, second, **options)
    monkeypatch.setenv("STMN_FLOW_KERNEL", kernel)
    assert kernel_name("cuda") == kernel, kernel_problem("cuda")
    flow = tvl1(first.cuda(), second.cuda(), **options)
    assert flow.is_cuda
    found = (flow.cpu() - reference).abs()
    assert found.quantile(0.999) < 1e-2
    assert found.max() < 0.2
    assert found.mean() < 1e-4


@pytest.mark.cuda
def test_a_gpu_gives_a_pair_the_same_flow_in_any_batch():
    pairs = [moved(61, 83, 0.9 * k, -0.3 * k, seed=k) for k in range(7)]
    first, second = (torch.cat(frames).cuda() for frames in zip(*pairs, strict=True))
    alone = torch.cat([tvl1(one.cuda(), other.cuda()) for one, other in pairs])
    assert torch.equal(tvl1(first, second), alone)
    assert torch.equal(tvl1(first, second), alone), "and again"


@pytest.mark.cuda
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (7, 130), (17, 16), (36, 36), (256, 340)], ids=str)
def test_a_gpu_takes_any_size(size):
    flow = tvl1(*(frames.cuda() for frames in moved(*size)), median=5)
    assert flow.shape == (1, 2, *size)
    assert flow.isfinite().all()


@pytest.mark.cuda
@pytest.mark.parametrize("kernel", ["triton", "torch"])
def test_a_cuda_graph_holds_the_whole_solver(kernel, monkeypatch):
    """So nothing in it waits for the GPU, which `set_sync_debug_mode` checks too."""
    monkeypatch.setenv("STMN_FLOW_KERNEL", kernel)
    first, second = (frames.cuda() for frames in two_pairs((61, 83)))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        expected = tvl1(first, second)  # compiles, and makes the tables
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.set_sync_debug_mode("error")
    try:
        tvl1(first, second)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        flow = tvl1(first, second)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(flow, expected)


@pytest.mark.cuda
def test_compiled_torch_equals_the_reference_on_a_gpu():
    first, second = (frames.cuda() for frames in two_pairs((61, 83)))
    parameters = Parameters(0.15, 0.3, 0.25, 0.5, 8, 3, 12, 3, 0.45, 0.0)
    levels = pyramid(61, 83, parameters.scale, parameters.scales, parameters.smoothing)
    compiled = _tvl1_torch.solve(first, second, levels, parameters, _tvl1_torch.EAGER.compiled())
    assert (compiled - _tvl1_torch.solve(first, second, levels, parameters)).abs().max() < 1e-3


@pytest.mark.cuda(gpus=2)
def test_another_gpu_computes_where_its_frames_are():
    first, second = two_pairs((61, 83))
    flow = tvl1(first.to("cuda:1"), second.to("cuda:1"))
    assert flow.device == torch.device("cuda:1")
    assert torch.equal(flow.cpu(), tvl1(first.to("cuda:0"), second.to("cuda:0")).cpu())
