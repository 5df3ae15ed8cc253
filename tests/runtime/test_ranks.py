"""What processes that train together say when one of them is lost, and when something else fails."""

import atexit

import pytest
import torch
import torch.distributed as dist
import typer

from stmn.cli.guard import guarded
from stmn.errors import Interrupted, StmnError
from stmn.runtime.device import choose_device
from stmn.runtime.ranks import Ranks, report_lost_rank

NCCL = "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:92, "
LOST = "another of the 2 processes has ended"


@pytest.fixture(autouse=True)
def two_processes(monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(("error", "said"), [
    (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:6"), LOST),
    (dist.DistNetworkError("Failed to recv, got 0 bytes"), LOST),
    (dist.DistBackendError(NCCL + "remote process exited or there was a network error, NCCL version 2.27.3\nncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely."), LOST),
    (dist.DistBackendError("[Rank 0]: Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3)"), LOST),
    (dist.DistBackendError(NCCL + "invalid usage (run with NCCL_DEBUG=WARN for details), NCCL version 2.27.3\nncclInvalidUsage: This usually reflects invalid usage of NCCL library.\nLast error:\nDuplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000"),
     "NCCL failed: Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000; NCCL_DEBUG=INFO makes it say more"),
    (dist.DistBackendError(NCCL + "unhandled cuda error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.3"),
     "NCCL failed: unhandled cuda error; NCCL_DEBUG=INFO makes it say more"),
])  # fmt: skip
def test_only_a_lost_process_is_called_lost(error, said):
    with pytest.raises(StmnError) as found, report_lost_rank():
        raise error
    assert str(found.value).startswith(said) and "\n" not in str(found.value)


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB."),
    dist.DistBackendError(NCCL + "unhandled cuda error, NCCL version 2.27.3\nLast error:\nCuda failure 2 'out of memory'"),
    torch.AcceleratorError("CUDA error: the launch timed out and was terminated"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
])  # fmt: skip
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as found, report_lost_rank():
        raise error
    assert found.value is error


@pytest.mark.parametrize(("error", "left"), [
    (None, True),
    (Interrupted("interrupted at step 3"), True),  # the processes agreed on it
    (StmnError("clip.avi: damaged"), False),  # the others wait in a sum for this process: NCCL would wait for them
])  # fmt: skip
def test_process_that_failed_leaves_nccl_to_torchrun(monkeypatch, error, left):
    at_the_end, destroyed = [], []
    monkeypatch.setattr(atexit, "register", at_the_end.append)
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    monkeypatch.setattr(dist, "destroy_process_group", lambda: destroyed.append(True))
    ranks = Ranks(0, 2, dist.HashStore())
    monkeypatch.setattr("stmn.runtime.ranks.current_ranks", lambda: ranks)
    ranks.join(choose_device("cpu"))
    if error:
        with pytest.raises(typer.Exit), guarded():
            raise error
    [leave] = at_the_end
    leave()
    assert bool(destroyed) == left
