"""A batch of chains that exceeds the memory is computed in parts, which find the memory of the failed pass free."""

import gc
import weakref

import pytest
import torch
from helpers.devices import limit_gpu_memory
from torch import Tensor

from stmn.flow.batches import BatchMaker
from stmn.flow.owner import Request
from stmn.flow.tvl1 import tvl1
from stmn.runtime.device import choose_device


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
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
        return torch.stack([first, second], dim=1)

    flow.seen = seen
    return flow


def make_request(pairs: int, side: int = 8) -> Request:
    frames = torch.randint(0, 256, (pairs + 1, side, side, 3), dtype=torch.uint8)
    return Request(client=None, slot=0, frames=frames, levels=torch.zeros(pairs, 2, side, side, dtype=torch.uint8))


def test_failed_pass_leaves_nothing_in_memory(passes):
    maker = BatchMaker(passes, 20.0, "keep", choose_device("cpu"))
    requests = [make_request(8), make_request(2)]
    gc.disable()  # memory comes back at once, not when Python next looks for circles
    try:
        answers = maker.finish(maker.launch(requests))
    finally:
        gc.enable()
    assert [reason for _, reason in answers] == ["", ""]
    assert max(pairs for pairs, _ in passes.seen) == 10 and {left for _, left in passes.seen} == {0}
    assert all(request.levels.any() for request, _ in answers)
    assert maker.most_pairs(8, 8) == 2, "half of the smallest pass that did not fit"


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
