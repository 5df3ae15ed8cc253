"""TV-L1: what its contract promises, on synthetic motion and on the Middlebury pairs."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.waves import TVL1_OPTIONS, moved, texture
from PIL import Image

from stmn.errors import StmnError, UsageError
from stmn.flow import _tvl1_library
from stmn.flow.kernels import kernel_name, kernel_problem
from stmn.flow.tvl1 import tvl1

needs_c = pytest.mark.skipif(kernel_problem() is not None, reason=f"no C kernel: {kernel_problem()}")
kernels = pytest.mark.parametrize("kernel", ["torch", pytest.param("c", marks=needs_c)])

# Mean endpoint error in pixels of OpenCV 5.0 DualTVL1 with its defaults.
MIDDLEBURY = {"Dimetrodon": 0.180, "Grove2": 0.157, "Hydrangea": 0.194, "RubberWhale": 0.156, "Urban2": 3.572}
URBAN2_LIMIT = 0.7  # its motion is larger than OpenCV's default pyramid reaches


@pytest.fixture(autouse=True)
def one_thread_and_no_forced_kernel(monkeypatch):
    monkeypatch.delenv("STMN_FLOW_KERNEL", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@kernels
@pytest.mark.parametrize(("dx", "dy"), [(0.4, 0.0), (1.3, -0.6), (-4.2, 3.1)])
def test_recovers_a_translation_to_a_fraction_of_a_pixel(kernel, dx, dy, monkeypatch):
    monkeypatch.setenv("STMN_FLOW_KERNEL", kernel)
    flow = tvl1(*moved(96, 120, dx, dy))
    assert flow.shape == (1, 2, 96, 120)
    assert flow.dtype == torch.float32
    inner = flow[0, :, 12:-12, 12:-12]
    assert inner[0].mean().item() == pytest.approx(dx, abs=0.01)
    assert inner[1].mean().item() == pytest.approx(dy, abs=0.01)
    assert (inner - torch.tensor([dx, dy])[:, None, None]).abs().max() < 0.05


@kernels
def test_still_frames_have_no_flow(kernel, monkeypatch):
    monkeypatch.setenv("STMN_FLOW_KERNEL", kernel)
    still = texture(50, 70)[None]
    assert tvl1(still, still).abs().max() < 1e-3
    flat = torch.full((1, 50, 70), 90.0)
    assert tvl1(flat, flat).abs().max() < 1e-5


@needs_c
@pytest.mark.parametrize("parameters", TVL1_OPTIONS, ids=str)
@pytest.mark.parametrize("size", [(61, 83), (40, 40)], ids=str)
def test_c_kernel_equals_the_reference(parameters, size, monkeypatch):
    first = torch.cat([moved(*size, dx, dy, seed=seed)[0] for seed, (dx, dy) in enumerate([(1.3, -0.6), (3.0, 1.0)])])
    second = torch.cat([moved(*size, dx, dy, seed=seed)[1] for seed, (dx, dy) in enumerate([(1.3, -0.6), (3.0, 1.0)])])
    monkeypatch.setenv("STMN_FLOW_KERNEL", "torch")
    reference = tvl1(first, second, **parameters)
    monkeypatch.setenv("STMN_FLOW_KERNEL", "c")
    difference = (tvl1(first, second, **parameters) - reference).abs()
    assert difference.quantile(0.999) < 1e-2  # rounding sometimes moves a pixel from one motion to the other
    assert difference.max() < 0.2
    assert difference.mean() < 1e-4


@needs_c
def test_c_kernel_equals_the_reference_at_the_border(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randint(0, 256, (2, 45, 51), generator=generator, dtype=torch.uint8) for _ in range(2))
    monkeypatch.setenv("STMN_FLOW_KERNEL", "torch")
    reference = tvl1(first, second, lambda_=1.0)
    monkeypatch.setenv("STMN_FLOW_KERNEL", "c")
    assert (tvl1(first, second, lambda_=1.0) - reference).abs().mean() < 1e-2  # noise: each rounding is amplified


@kernels
def test_flow_of_a_pair_is_the_same_in_any_batch_and_thread(kernel, monkeypatch):
    monkeypatch.setenv("STMN_FLOW_KERNEL", kernel)
    pairs = [moved(44, 53, 0.7 * k, -0.3 * k, seed=k) for k in range(7)]
    first, second = (torch.cat(frames) for frames in zip(*pairs, strict=True))
    alone = torch.cat([tvl1(*pair) for pair in pairs])
    assert torch.equal(tvl1(first, second), alone)
    torch.set_num_threads(3)
    assert torch.equal(tvl1(first, second), alone)
    assert torch.equal(tvl1(first.flip(0), second.flip(0)).flip(0), alone)


@kernels
def test_bytes_and_floats_give_the_same_flow(kernel, monkeypatch):
    monkeypatch.setenv("STMN_FLOW_KERNEL", kernel)
    first, second = (frames.round().to(torch.uint8) for frames in moved())
    assert torch.equal(tvl1(first, second), tvl1(first.double(), second.half()))


@kernels
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (7, 130), (17, 16), (36, 36), (33, 65)], ids=str)
def test_any_size_works(kernel, size, monkeypatch):
    monkeypatch.setenv("STMN_FLOW_KERNEL", kernel)
    flow = tvl1(*moved(*size), median=5)
    assert flow.shape == (1, 2, *size)
    assert flow.isfinite().all()


def test_empty_batch_gives_an_empty_flow():
    assert tvl1(torch.zeros(0, 20, 30), torch.zeros(0, 20, 30)).shape == (0, 2, 20, 30)


@kernels
def test_frames_may_be_views(kernel, monkeypatch):
    monkeypatch.setenv("STMN_FLOW_KERNEL", kernel)
    first, second = moved()
    frames = torch.stack([first[0], second[0]]).transpose(1, 2)
    assert torch.equal(tvl1(frames[:1], frames[1:]), tvl1(frames[:1].clone(), frames[1:].contiguous()))


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (torch.zeros(20, 20), torch.zeros(20, 20), r"\(B, H, W\)"),
        (torch.zeros(1, 20, 20), torch.zeros(2, 20, 20), "one shape"),
        (torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 20), r"\(B, H, W\)"),
        (torch.zeros(1, 0, 20), torch.zeros(1, 0, 20), r"\(B, H, W\)"),
        (torch.zeros(1, 20, 20, dtype=torch.int64), torch.zeros(1, 20, 20), "uint8 or floating"),
    ],
)
def test_mismatched_frames_are_a_usage_error(first, second, says):
    with pytest.raises(UsageError, match=says):
        tvl1(first, second)


@pytest.mark.parametrize(
    "parameters",
    [{"tau": 0.3}, {"theta": 0.0}, {"scale": 1.0}, {"warps": 0}, {"median": 4}, {"epsilon": -1.0}],
    ids=str,
)
def test_parameter_out_of_range_is_a_usage_error(parameters):
    with pytest.raises(UsageError, match=next(iter(parameters))):
        tvl1(*moved(), **parameters)


def test_without_a_compiler_torch_takes_over(tmp_path):
    code = "from stmn.flow.kernels import *; print(kernel_name(), '|', kernel_problem())"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CC": "no-such-compiler"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("torch | no C compiler 'no-such-compiler'")
    assert run.stderr.startswith("TV-L1 flow takes 43 times as long without its C kernel: no C compiler")


def test_failing_compiler_is_recorded_and_tried_once(tmp_path, monkeypatch):
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\necho called >> {tmp_path}/calls\necho too bad >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _tvl1_library.load.cache_clear()
    try:
        assert kernel_name() == "torch"
        assert "too bad" in (kernel_problem() or "")
        assert tvl1(*moved(20, 20)).shape == (1, 2, 20, 20)
        assert (tmp_path / "calls").read_text().count("called") == 1
        assert not list((tmp_path / "cache").rglob("*.so"))
        monkeypatch.setenv("STMN_FLOW_KERNEL", "c")
        with pytest.raises(StmnError, match="too bad"):
            kernel_name()
    finally:
        _tvl1_library.load.cache_clear()


@needs_c
def test_damaged_cache_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = _tvl1_library.KERNEL.target(["cc"])
    library.write_bytes(b"half a file")
    monkeypatch.delenv("CC", raising=False)
    _tvl1_library.load.cache_clear()
    try:
        assert kernel_name() == "c"
        assert library.stat().st_size > 10_000
        assert list(library.parent.iterdir()) == [library]
    finally:
        _tvl1_library.load.cache_clear()


@needs_c
def test_kernel_works_without_a_writable_cache(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("CC", raising=False)
    _tvl1_library.load.cache_clear()
    try:
        assert kernel_name() == "c"
        assert tvl1(*moved(20, 20)).shape == (1, 2, 20, 20)
    finally:
        _tvl1_library.load.cache_clear()


def test_unknown_kernel_is_a_usage_error(monkeypatch):
    monkeypatch.setenv("STMN_FLOW_KERNEL", "fortran")
    with pytest.raises(UsageError, match="fortran"):
        tvl1(*moved())


@pytest.mark.cuda
def test_cuda_equals_cpu(monkeypatch):
    first, second = moved()
    flow = tvl1(first.cuda(), second.cuda())
    assert flow.device.type == "cuda"
    assert (flow.cpu() - tvl1(first, second)).abs().max() < 1e-2


@needs_c
@pytest.mark.parametrize("pair", MIDDLEBURY)
def test_is_as_accurate_as_opencv_on_middlebury(pair, shared_data):
    folder = shared_data / "flow_gt" / pair
    first, second = (
        torch.from_numpy(np.array(Image.open(folder / name).convert("L")))[None]
        for name in ("frame10.png", "frame11.png")
    )
    raw = np.fromfile(folder / "flow10.flo", dtype="<f4")
    width, height = raw[1:3].view("<i4")
    truth = torch.from_numpy(raw[3:].reshape(height, width, 2)).permute(2, 0, 1)
    known = (truth.abs() < 1e9).all(dim=0)
    error = (tvl1(first, second)[0] - truth).square().sum(dim=0).sqrt()[known].mean()
    assert error < (URBAN2_LIMIT if pair == "Urban2" else 1.05 * MIDDLEBURY[pair])
