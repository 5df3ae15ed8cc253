"""Precision and compiling change how fast a network is trained, not what it learns."""

import json
import shlex

import pytest
import torch
from helpers.alike import check_precision
from helpers.commands import call, errors_of
from helpers.trainings import CPU, equal, network, steps, videos, weights
from torch import Tensor
from torch.amp import GradScaler

from stmn.errors import Interrupted, UsageError
from stmn.runtime.device import Device, choose_device
from stmn.runtime.progress import Silent
from stmn.runtime.tensor_files import read_metadata, read_tensors
from stmn.training.loop import train
from stmn.training.state import STATE_FILE
from stmn.workspace import Workspace


def trained(prepared: Workspace, folder, device: Device, **plan: object) -> tuple[dict[str, Tensor], list[float]]:
    """The weights after some steps, and the losses along the way."""
    net = network()
    state = train(net, videos(prepared), None, steps(12, log_every=4, **plan), device, folder, Silent())
    return {name: value.cpu() for name, value in weights(net).items()}, [row["loss"] for row in state.history]


def test_precision_is_float32_on_a_cpu_unless_named():
    assert choose_device("cpu").precision == torch.float32
    assert choose_device("cpu", "bfloat16").precision == torch.bfloat16
    with pytest.raises(UsageError, match="no CUDA device"):
        choose_device("cuda:99")


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_half_precision_learns_alike_with_float32_weights(prepared, tmp_path, precision):
    exact, losses = trained(prepared, tmp_path / "exact", CPU)
    half, half_losses = trained(prepared, tmp_path / "half", choose_device("cpu", precision))
    assert half_losses[-1] < losses[0]
    assert half_losses[0] == pytest.approx(losses[0], rel=0.1)
    assert not equal(half, exact)
    assert all(value.dtype == exact[name].dtype for name, value in half.items())


def test_first_step_that_overflows_in_float16_leaves_no_trace(prepared, tmp_path, monkeypatch):
    """Memory that torch does not initialise holds anything; here it holds NaN."""
    monkeypatch.setattr(Device, "scaler", lambda self: GradScaler(self.device.type, init_scale=2.0**24))
    monkeypatch.setattr(torch, "empty_like", lambda like, **how: torch.full_like(like, torch.nan, **how))
    net, plan = network(), steps(10, batch=4, micro_batch=4, log_every=1)
    rows = train(net, videos(prepared), None, plan, choose_device("cpu", "float16"), tmp_path, Silent()).history
    norms = [row["gradient_norm"] for row in rows]
    assert norms[0] is None and any(norms), "the scale was lowered until the gradient was finite"
    saved = read_tensors(tmp_path / STATE_FILE)
    assert any(name.startswith("optimizer.momentum_buffer.") and value.any() for name, value in saved.items())
    assert all(value.isfinite().all() for value in (*saved.values(), *weights(net).values()))


@pytest.mark.slow
def test_float16_resumes_with_its_loss_scale(prepared, tmp_path):
    class Stop(Silent):
        def __init__(self) -> None:
            self.left = 1

        def advance(self, count: int = 1, **fields: object) -> None:
            self.left -= count
            if self.left < 0:
                raise Interrupted("stopped by the test")

    device, plan = choose_device("cpu", "float16"), steps(3, batch=4, micro_batch=4, checkpoint_minutes=1e-9)
    whole, parts = network(), network()
    train(whole, videos(prepared), None, plan, device, tmp_path / "whole", Silent())
    with pytest.raises(Interrupted):
        train(parts, videos(prepared), None, plan, device, tmp_path / "parts", Stop())
    scaler = read_metadata(tmp_path / "parts" / STATE_FILE)["training_state"]["scaler"]
    assert scaler["scale"] > 0
    parts = network()
    train(parts, videos(prepared), None, plan, device, tmp_path / "parts", Silent())
    assert equal(weights(parts), weights(whole))


def test_precision_is_part_of_a_runs_identity(scratch):
    line = shlex.split(
        "train-stream --modality rgb --arch resnet18 --width 0.125 --weights none --size 32 --batch 8 "
        "--micro-batch 8 --steps 1 --schedule cosine --validation 0 --workspace"
    )
    for more in ([], ["--precision", "bfloat16"]):
        assert call(*line, scratch.root, *more).exit_code == 0
    assert len(list(scratch.runs())) == 2
    refused = call(*line, scratch.root, "--precision", "int8")
    assert refused.exit_code == 2 and "int8" in refused.stderr


def test_training_says_when_it_is_not_float32_and_float32_is_never_tf32(scratch, monkeypatch):
    """A program may have allowed TF32; the backward pass must not use it either."""
    line = shlex.split(
        "train-stream --modality rgb --arch resnet18 --width 0.125 --weights none --size 32 --batch 8 "
        "--micro-batch 8 --steps 1 --schedule cosine --validation 0 --bn-passes 0 --force --workspace"
    )
    notice, seen = "precision: convolutions are computed in bfloat16 on cpu", []
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has}, raising=False)
        more = "" if has else ", which this CPU emulates: float32 is faster"
        assert f"{notice}{more}\n" in call(*line, scratch.root, "--precision", "bfloat16").stderr
    backward = Tensor.backward

    def look(*arguments: object, **options: object) -> None:
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        backward(*arguments, **options)

    monkeypatch.setattr(Tensor, "backward", look)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert "precision:" not in call(*line, scratch.root).stderr
        assert seen == [("highest", False)] and torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_compiled_network_learns_the_same(prepared, tmp_path):
    exact, _ = trained(prepared, tmp_path / "exact", CPU, rate=0.001)
    compiled, _ = trained(prepared, tmp_path / "compiled", CPU, rate=0.001, compile="aot_eager")
    assert compiled.keys() == exact.keys()
    for name in exact:
        torch.testing.assert_close(compiled[name], exact[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_compile_on_the_command_line(scratch):
    line = shlex.split(
        "train-stream --modality flow --arch resnet18 --width 0.125 --weights none --size 32 --batch 8 "
        "--micro-batch 4 --steps 3 --lr 0.001 --schedule cosine --validation 0 --compile --workspace"
    )
    done = call(*line, scratch.root)
    assert done.exit_code == 0, errors_of(done)
    (run,) = scratch.runs()
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 3


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16", "float16"])
def test_gpu_learns_what_a_cpu_learns(prepared, tmp_path, precision):
    check_precision(prepared, tmp_path, choose_device("cuda", precision))


@pytest.mark.cuda
def test_gpu_has_channels_last():
    placed = choose_device("cuda").place(network())
    assert next(placed.parameters()).is_cuda
    assert placed.stream("motion").backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
