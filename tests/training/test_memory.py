"""Memory that runs out ends in one line that says what to try; testing goes on in smaller parts where it can."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import Result
from helpers.commands import call, errors_of, over
from helpers.packages import Packages, on_path

import stmn
from stmn.errors import StmnError
from stmn.evaluation.scores import load_scores
from stmn.runtime.memory import find_shortage
from stmn.workspace import Workspace

#: a gate that runs out of memory when it is given more than LIMIT chunks at a time, in process ON, in the way HOW; not in
#: its first AFTER calls
GREEDY = """
import os

import torch
from torch import nn


calls = 0


class Greedy(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, receiving, sending):
        global calls
        if sending.shape[2:] == (3, 5):  # the maps on which a new gate is tried
            return receiving * sending
        calls += 1
        too_large = len(sending) > int(os.environ.get("LIMIT", 10**9)) and calls > int(os.environ.get("AFTER", 0))
        if too_large and os.environ.get("RANK", "0") == os.environ["ON"]:
            if os.environ["HOW"] == "gpu":
                raise torch.OutOfMemoryError(
                    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which "
                    "1.2 GiB is free.\\nSee documentation for Memory Management"
                )
            torch.empty(10**15)  # 4 PB, more than a process can address
        return receiving * sending
"""

FUSE = "fuse --fusion greedy --validation 0 --steps 2 --batch 8 --chunks 2 --stride-min 1 --stride-max 2 --lr 0.01"


@pytest.fixture
def greedy(tmp_path, monkeypatch) -> Packages:
    """The fusion `greedy`, installed."""
    monkeypatch.setenv("ON", "0")
    monkeypatch.setenv("HOW", "gpu")
    with on_path(tmp_path / "packages", monkeypatch) as packages:
        packages.install("greedy_gate", GREEDY, fusion={"greedy": "Greedy"})
        yield packages


def fuse(space: Workspace, micro_batch: int, *more: object):
    return call(*over(shlex.split(FUSE), "--micro-batch", micro_batch, *more, "-w", space.root))


def the_error(result) -> str:
    """The one line of a failed command."""
    assert result.exit_code == 1
    (line,) = errors_of(result)
    assert "Traceback" not in result.stderr
    return line


@pytest.mark.parametrize(("how", "said"), [
    ("gpu", "out of memory on the GPU (2.5 GiB more asked for): "),
    ("host", "out of memory (3.55 PiB more asked for): "),
])  # fmt: skip
def test_training_names_the_micro_batch_to_try_and_that_one_fits(own, greedy, monkeypatch, how, said):
    monkeypatch.setenv("LIMIT", "8")  # chunks of four videos
    monkeypatch.setenv("HOW", how)
    line = the_error(fuse(own, 8))
    assert line.startswith(f"{said}micro-batches of 8 are too large: try --micro-batch 4")
    assert "another training, from step 0" in line
    assert ("--cache-mb" in line) == (how == "host")
    record = max(own.runs(), key=lambda run: run.path.stat().st_mtime).record
    assert record["status"] == "failed" and record["error"] == line
    assert fuse(own, 4).exit_code == 0


def test_micro_batch_of_one_has_other_advice(own, greedy, monkeypatch):
    monkeypatch.setenv("LIMIT", "1")
    line = the_error(fuse(own, 1))
    assert "try fewer --chunks or --precision bfloat16 or a smaller network" in line and "--micro-batch" not in line


def test_saved_state_is_kept_and_the_same_command_continues(own, greedy, monkeypatch):
    monkeypatch.setenv("LIMIT", "0")
    monkeypatch.setenv("AFTER", "20")  # four gates, two micro-batches: in the third step
    more = ("--steps", 3, "--checkpoint-minutes", 1e-9)
    line = the_error(fuse(own, 4, *more))
    assert "is kept: the same command continues from it where there is more memory" in line
    monkeypatch.delenv("LIMIT")
    done = fuse(own, 4, *more)
    assert done.exit_code == 0 and "continuing at step 1 of 3" in done.stderr, done.stderr


def test_batch_that_no_machine_holds(own):
    line = "train-stream --modality rgb --arch resnet18 --width 0.125 --weights none --chunks 10000 --batch 64"
    result = call(
        *shlex.split(line), "--micro-batch", 64, "--steps", 1, "--schedule", "cosine", "--validation", 0, "-w", own.root
    )
    assert (
        "more asked for): micro-batches of 64 are too large: try --micro-batch 32 or a smaller --cache-mb"
        in the_error(result)
    )


def scores(space: Workspace, *flags: object) -> tuple[Result, torch.Tensor]:
    done = call("evaluate", "fused-greedy", *flags, "-w", space.root)
    assert done.exit_code == 0, done.stderr
    return done, load_scores(space.newest("scores").output("scores")).mean()


def test_testing_goes_on_in_smaller_parts_for_the_same_scores(own, greedy, monkeypatch):
    assert fuse(own, 8, "--injector", "none").exit_code == 0  # filters need the chunks around each
    _, whole = scores(own)
    monkeypatch.setenv("LIMIT", "4")
    done, parts = scores(own, "--force")
    notice = next(line for line in done.stderr.splitlines() if "testing goes on in passes of" in line)
    assert notice.startswith("out of memory on the GPU (2.5 GiB more asked for): ")
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    video = next((own.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    model = stmn.load(own.find_input("fused-greedy", "model").path)
    assert len(model.predict(video)) == 4

    monkeypatch.setenv("LIMIT", "0")
    line = the_error(call("evaluate", "fused-greedy", "--force", "-w", own.root))
    assert line.endswith("not even the smallest part of a video fits: try --precision bfloat16 or fewer --chunks")
    assert "--precision bfloat16" in the_error(call("predict", "fused-greedy", video, "-w", own.root))
    with pytest.raises(StmnError, match="out of memory on the GPU"):
        model.predict(video)


def test_other_commands_say_it_in_one_line_too(own, greedy, monkeypatch):
    assert fuse(own, 8).exit_code == 0
    monkeypatch.setenv("LIMIT", "0")
    line = the_error(call("export", "fused-greedy", "-w", own.root))
    assert line.endswith("more asked for): close other programs, or run this where there is more")


@pytest.mark.slow
def test_all_processes_of_torchrun_end_with_one_line(own, greedy):
    command = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node=2", "-m", "stmn", *shlex.split(FUSE)]
    environment = os.environ | {
        "PYTHONPATH": str(greedy.folder), "ON": "1", "HOW": "gpu", "LIMIT": "4", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run([*command, "--micro-batch", "4", "-w", str(own.root)], capture_output=True, text=True,
                          timeout=120, env=environment)  # fmt: skip
    assert done.returncode != 0
    (line,) = errors_of(done)
    assert (
        "out of memory on the GPU (2.5 GiB more asked for): micro-batches of 4 are too large: try --micro-batch 2"
        in line
    )


@pytest.mark.parametrize(("error", "said"), [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), "out of memory on the GPU (20 MiB more asked for)"),
    (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), "out of memory on the GPU"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory on the GPU"),
    (RuntimeError("FIND was unable to find an engine to execute this computation"), "out of memory on the GPU"),
    (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 2048 bytes."), "out of memory (2 KiB more asked for)"),
    (MemoryError(), "out of memory"),
    (MemoryError("optical flow of 64x48 frames: out of memory"), "optical flow of 64x48 frames: out of memory"),
])  # fmt: skip
def test_every_library_has_its_own_words(error, said):
    assert str(find_shortage(error)) == said


def test_other_errors_are_other_errors():
    assert find_shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert find_shortage(StmnError("out of memory")) is None
