"""Batches of chains: what exceeds the memory is computed in parts; what is the GPU's fault is blamed on no video."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from helpers.devices import limit_gpu_memory
from helpers.packages import on_path
from torch import Tensor

from stmn.errors import PluginError
from stmn.flow.batches import BatchMaker
from stmn.flow.estimator import load_estimator
from stmn.flow.owner import Request
from stmn.flow.tvl1 import tvl1
from stmn.runtime.device import Device, choose_device
from stmn.runtime.workers import FatalJobError

#: the type of CUDA's errors; an older torch has none for them
CudaError = getattr(torch, "AcceleratorError", RuntimeError)
NO_KERNEL = (
    "CUDA error: no kernel image is available for execution on the device\nSearch for `cudaErrorNoKernelImageForDevice' "
    "in https://docs.nvidia.com/cuda/cuda-runtime-api for more information.\nCUDA kernel errors might be reported later\n"
)
SHORT = "CUDA out of memory. Tried to allocate 2.50 GiB."


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Memory comes back at once, not when Python next looks for circles."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def passes():
    """A flow for three pairs at most: how many pairs each pass had, and the tensors of failed passes that were left."""
    held: list[weakref.ref[Tensor]] = []
    seen: list[tuple[int, int]] = []

    def flow(first: Tensor, second: Tensor) -> Tensor:
        seen.append((len(first), sum(one() is not None for one in held)))
        large = first + 1
        if len(first) > 3:
            held.append(weakref.ref(large))
            raise torch.OutOfMemoryError(SHORT)
        return torch.stack([first, second], dim=1)

    flow.seen, flow.held = seen, held
    return flow


@pytest.fixture
def gpu(monkeypatch) -> Device:
    """The CPU in the place of a GPU that has 1 GB, of which 900 MB are free, and that goes on after an error."""
    stream = SimpleNamespace(wait_stream=lambda _: None)
    cuda = {
        "Stream": lambda _: stream, "current_stream": lambda _: stream, "stream": lambda _: nullcontext(),
        "synchronize": lambda _: None, "empty_cache": lambda: None, "mem_get_info": lambda _: (9 * 10**8, 10**9),
        "memory_reserved": lambda _: 0, "memory_allocated": lambda _: 0,
    }  # fmt: skip
    for name, stand_in in cuda.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **how: empty(*size, **how))
    monkeypatch.setattr(Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(Device, "is_cuda", True)
    monkeypatch.setattr(Device, "overlaps_copies", True)
    monkeypatch.setattr(Device, "move", lambda _, tensor: tensor)
    return Device(torch.device("cpu"))


def make_request(pairs: int, side: int = 8) -> Request:
    frames = torch.randint(0, 256, (pairs + 1, side, side, 3), dtype=torch.uint8)
    return Request(client=None, slot=0, frames=frames, levels=torch.zeros(pairs, 2, side, side, dtype=torch.uint8))


def fails_with(error: Exception) -> Callable[[Tensor, Tensor], Tensor]:
    def flow(first: Tensor, second: Tensor) -> Tensor:
        raise error

    return flow


def test_failed_pass_leaves_nothing_in_memory(passes, no_collection):
    maker = BatchMaker(passes, 20.0, "keep", choose_device("cpu"))
    requests = [make_request(8), make_request(2)]
    answers = maker.finish(maker.launch(requests))
    assert [reason for _, reason in answers] == ["", ""]
    assert max(pairs for pairs, _ in passes.seen) == 10 and {left for _, left in passes.seen} == {0}
    assert all(request.levels.any() for request, _ in answers)
    assert maker.most_pairs(8, 8) == 2, "half of the smallest pass that did not fit"


def test_failed_pass_leaves_nothing_to_the_next_one(passes, no_collection):
    """Which is launched before the failed one is asked for. A plugin's error, which another one led to, is no exception."""

    def plugin(first: Tensor, second: Tensor) -> Tensor:
        try:
            return passes(first, second)
        except RuntimeError as error:
            raise PluginError("flow 'large' failed") from error

    for flow in (passes, plugin):
        maker = BatchMaker(flow, 20.0, "keep", choose_device("cpu"))
        failed = maker.launch([make_request(4)])
        assert passes.held and all(one() is None for one in passes.held)
        passes.held.clear()
        maker.finish(failed)
        passes.held.clear()


@pytest.mark.parametrize(("error", "says"), [
    (CudaError(NO_KERNEL), f"{CudaError.__name__}: CUDA error: no kernel image is available for execution on the device"),
    (RuntimeError("Triton Error [CUDA]: device kernel image is invalid"), "RuntimeError: Triton Error [CUDA]: device"),
    (OSError(28, "No space left on device", "/root/.triton/cache"), "OSError: [Errno 28] No space left on device"),
], ids=["torch", "Triton", "disk"])  # fmt: skip
def test_gpu_that_cannot_compute_is_no_fault_of_the_videos(error, says, gpu):
    """Although it goes on after the error. The reason is one line, which names the device and what to do."""
    maker = BatchMaker(fails_with(error), 20.0, "keep", gpu)
    with pytest.raises(FatalJobError) as caught:
        maker.finish(maker.launch([make_request(2), make_request(1)]))
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"cpu: {says}")
    assert line.endswith("; use --device cpu, or another GPU")


def test_gpu_that_cannot_compute_is_no_fault_of_a_plugin(gpu, tmp_path, monkeypatch):
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install(
            "mine", f"def flow(first, second):\n    raise RuntimeError({NO_KERNEL!r})", flow={"mine": "flow"}
        )
        maker = BatchMaker(load_estimator("mine", {}), 20.0, "keep", gpu)
        with pytest.raises(FatalJobError) as caught:
            maker.finish(maker.launch([make_request(2)]))
    [line] = str(caught.value).splitlines()
    assert line.startswith("cpu: flow 'mine' of package mine 1.0 failed: RuntimeError: CUDA error: no kernel image")
    assert line.endswith("; use --device cpu, or another GPU")


def test_plugin_that_fails_on_a_gpu_costs_a_video(gpu):
    maker = BatchMaker(fails_with(PluginError("flow 'mine' failed: LookupError: too bright")), 20.0, "keep", gpu)
    requests = [make_request(2), make_request(1)]
    answers = maker.finish(maker.launch(requests))
    assert answers == [(request, "flow 'mine' failed: LookupError: too bright") for request in requests]


def test_gpu_that_another_program_fills_is_no_fault_of_the_videos(gpu, monkeypatch):
    """A pair for which the whole GPU has room, and what is left of it has none."""
    maker, request = BatchMaker(fails_with(torch.OutOfMemoryError(SHORT)), 20.0, "keep", gpu), make_request(1, side=200)
    [(_, reason)] = maker.finish(maker.launch([request]))
    assert reason == "out of memory on the GPU (2.5 GiB more asked for)", "no other program is to blame"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**7, 10**9))
    with pytest.raises(FatalJobError, match=r"^cpu: out of memory on the GPU .*: other programs hold its memory; use"):
        maker.finish(maker.launch([request]))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**7, 2 * 10**7))
    [(_, reason)] = maker.finish(maker.launch([request]))
    assert reason, "it would not fit into an empty GPU either"


def test_gpu_is_tried_before_any_video(gpu, monkeypatch):
    def refuse(*_: object, **__: object) -> Tensor:
        raise CudaError(NO_KERNEL)

    monkeypatch.setattr(torch, "ones", refuse)
    with pytest.raises(CudaError, match="no kernel image"):
        BatchMaker(tvl1, 20.0, "keep", gpu)


@pytest.mark.cuda
def test_memory_of_a_gpu_that_runs_out_halves_the_work():
    """The GPU gives 200 MB more than is in use; 64 pairs of 256 x 256 pixels need more."""
    device = choose_device("cuda:0")
    maker, requests = BatchMaker(tvl1, 20.0, "keep", device), [make_request(16, 256) for _ in range(4)]
    whole = [request.levels.clone() for request, _ in maker.finish(maker.launch(requests))]
    with limit_gpu_memory(200e6, device.device):
        answers = maker.finish(maker.launch(requests))
    assert [reason for _, reason in answers] == [""] * 4
    assert maker.most_pairs(256, 256) < 64, "the next batches are smaller"
    assert all(torch.equal(request.levels, levels) for (request, _), levels in zip(answers, whole, strict=True))
