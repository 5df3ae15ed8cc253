"""A host that works ahead of its device trains alike, and does not wait for the numbers of each step.

Here a CPU stands in for the GPU: what a step found is read one step later.
"""

import os
import shlex
import signal
from collections import Counter

import pytest
import torch
from helpers.commands import call, errors_of
from helpers.trainings import CPU, equal, network, steps, videos, weights
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stmn.errors import Interrupted, StmnError
from stmn.runtime.device import Device
from stmn.runtime.precision import training_numbers
from stmn.runtime.progress import Silent
from stmn.training.learner import Learner, softmax_loss
from stmn.training.loop import train

BROKEN_AT = 3


@pytest.fixture
def ahead(monkeypatch) -> None:
    """From now on a CPU's numbers are read a step later, as a GPU's are."""
    monkeypatch.setattr(Device, "runs_ahead", property(lambda self: True))


def test_weights_and_log_are_the_same(prepared, tmp_path, monkeypatch):
    """Of steps with clipping, averaged weights and a state saved before each of them."""
    plan = steps(5, micro_batch=4, clip=1.0, ema=0.9, log_every=2, bn_passes=0, checkpoint_minutes=1e-9)
    nets, rows = [network(), network()], []
    for number, net in enumerate(nets):
        if number:
            monkeypatch.setattr(Device, "runs_ahead", property(lambda self: True))
        state = train(net, videos(prepared), None, plan, CPU, tmp_path / str(number), Silent())
        rows.append([{k: row[k] for k in ("step", "loss", "accuracy", "gradient_norm")} for row in state.history])
    assert equal(weights(nets[0]), weights(nets[1])) and rows[0] == rows[1]


def test_broken_step_changes_no_weight_and_is_named(prepared, tmp_path, ahead, monkeypatch):
    """When the host gets to know of it, the next step has been given to the device already."""
    seen: list[dict[str, Tensor]] = []
    forward = Learner.forward

    def break_once(self: Learner, inputs: list[Tensor], label: Tensor) -> tuple[Tensor, Tensor]:
        seen.append({name: value.detach().clone() for name, value in self.network.named_parameters()})
        if len(seen) == BROKEN_AT + 1:
            inputs = [x * float("nan") for x in inputs]
        return forward(self, inputs, label)

    monkeypatch.setattr(Learner, "forward", break_once)
    net = network()
    with pytest.raises(StmnError, match=f"the loss is not finite at step {BROKEN_AT}; the batch holds"):
        train(net, videos(prepared), None, steps(8), CPU, tmp_path, Silent())
    assert len(seen) == BROKEN_AT + 2
    after = dict(net.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in seen[BROKEN_AT].items())
    assert not all(torch.equal(after[name], value) for name, value in seen[BROKEN_AT - 1].items())


class CtrlC(Silent):
    """Presses Ctrl-C after two steps."""

    steps = 0

    def advance(self, count: int = 1, **fields: object) -> None:
        self.steps += count
        if count and self.steps == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_interrupted_training_resumes_to_the_same_bits(prepared, tmp_path, ahead):
    plan = steps(6, log_every=4, bn_passes=0)
    whole, parts = network(), network()
    rows = train(whole, videos(prepared), None, plan, CPU, tmp_path / "whole", Silent()).history
    with pytest.raises(Interrupted, match="interrupted at step 3 of 6"):  # found in step 2, known in step 3
        train(parts, videos(prepared), None, plan, CPU, tmp_path / "parts", CtrlC())
    parts = network()
    resumed = train(parts, videos(prepared), None, plan, CPU, tmp_path / "parts", Silent()).history
    assert equal(weights(parts), weights(whole))
    assert [(row["loss"], row["accuracy"]) for row in resumed] == [(row["loss"], row["accuracy"]) for row in rows]


class Count(TorchDispatchMode):
    """Counts operations outside of the networks' forward and backward passes, by step."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.counts = False, [Counter()]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not self.inside and not func.is_view:
            self.counts[-1][str(func)] += 1
        return func(*args, **(kwargs or {}))

    def apart(self, function):
        def called(*arguments: object, **options: object):
            self.inside = True
            try:
                return function(*arguments, **options)
            finally:
                self.inside = False

        return called


def test_step_adds_few_operations_to_those_of_the_networks(prepared, tmp_path, monkeypatch):
    """However many layers there are: 42 here. On a GPU each would be a kernel or a copy that takes its time to start."""
    count = Count()
    monkeypatch.setattr(Learner, "forward", count.apart(Learner.forward))
    monkeypatch.setattr(Tensor, "backward", count.apart(Tensor.backward))

    class Steps(Silent):
        def advance(self, number: int = 1, **fields: object) -> None:
            count.counts += [Counter()] * number

    clips = videos(prepared, chunks=2, modalities=("rgb", "flow"))
    plan = steps(4, micro_batch=4, bn_momentum=0.6, bn_passes=0)
    with count:
        train(network(fused=True), clips, None, plan, CPU, tmp_path, Steps())
    second, third = (sum(found.values()) for found in count.counts[1:3])
    assert second <= 40 and third <= 40, count.counts[2]


TRAIN = shlex.split(
    "train-stream --modality flow --arch resnet18 --width 0.125 --weights none --size 32 --batch 8 --micro-batch 4 "
    "--steps 3 --lr 0.02 --schedule cosine --validation 0 --bn-passes 0 --dropout 0.5 --deterministic --force -w"
)


def test_deterministic_training_gives_the_same_bits_twice(scratch, monkeypatch):
    """On any device: torch refuses what is not the same each time. What a program has chosen is in force afterwards."""
    seen, backward = [], Tensor.backward

    def look(*arguments: object, **options: object) -> None:
        cudnn = torch.backends.cudnn
        seen.append((torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark))
        backward(*arguments, **options)

    monkeypatch.setattr(Tensor, "backward", look)
    models = []
    for _ in range(2):
        assert call(*TRAIN, scratch.root).exit_code == 0
        (run,) = scratch.runs()
        models.append(load_file(run.path / "model.safetensors"))
    assert equal(*models)
    assert set(seen) == {(True, True, False)}
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.0])])
@pytest.mark.parametrize(
    "label", [torch.tensor([2, 0, 1, 1]), torch.rand(4, 3, generator=torch.Generator().manual_seed(0))]
)
def test_deterministic_loss_is_the_same_number(label, weights):
    """It is computed on rows, because CUDA has no deterministic loss of maps."""
    logits = (torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(1)),)
    expected = softmax_loss(logits, label, 0.1, weights)
    with training_numbers(CPU, deterministic=True):
        torch.testing.assert_close(softmax_loss(logits, label, 0.1, weights), expected)


def test_operation_that_is_not_the_same_each_time_is_named(scratch, monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError(
            "avg_pool3d_backward_cuda does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation."
        )

    monkeypatch.setattr(Tensor, "backward", refuse)
    done = call(*TRAIN, scratch.root)
    assert done.exit_code == 1
    assert errors_of(done) == [
        "deterministic: avg_pool3d_backward_cuda has no deterministic form on this device; remove deterministic, or the "
        "option that needs it"
    ]


def test_tf32_and_modes_of_compiling_are_refused_where_they_mean_nothing(scratch):
    refused = call(*TRAIN, scratch.root, "--precision", "tf32")
    assert refused.exit_code == 2
    assert errors_of(refused) == ["precision 'tf32': only GPUs have it, and the device is cpu; use float32"]
    refused = call(*TRAIN, scratch.root, "--compile-mode", "reduce-overhead")
    assert errors_of(refused) == ["train-stream: compile_mode = reduce-overhead says how to compile: set compile too"]


def test_tf32_is_what_it_says_and_goes_again():
    device, before = Device(torch.device("cpu"), tf32=True), torch.get_float32_matmul_precision()
    with training_numbers(device):
        assert torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "high"
    with training_numbers(CPU):
        assert not torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == before
