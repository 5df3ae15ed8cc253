"""Batch normalisation in training: running statistics, statistics of the final weights, frozen layers."""

import re
import shlex
import threading

import pytest
import torch
from helpers.commands import call, errors_of
from helpers.trainings import CPU, equal, network, steps, videos, weights
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stmn.errors import Interrupted, StmnError
from stmn.nets.checkpoint import read_description
from stmn.nets.network import Network
from stmn.runtime.progress import Silent
from stmn.runtime.tensor_files import read_metadata
from stmn.sampling.order import sample_order
from stmn.training.loop import train
from stmn.training.normalisation import Normalisation
from stmn.training.recompute import count_samples, recompute_statistics
from stmn.training.state import STATE_FILE

FIRST = "streams.motion.backbone.bn1"


def statistics(net: nn.Module) -> dict[str, Tensor]:
    """Running means and variances."""
    return {name: value for name, value in weights(net).items() if "running_" in name}


# running statistics ---------------------------------------------------------------------------------------------------


def test_a_step_weighs_bn_momentum_and_the_first_ones_count_equally(prepared, tmp_path):
    net, seen = network(), []
    net.get_submodule(FIRST).register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].mean(dim=(0, 2, 3))))
    train(net, videos(prepared), None, steps(8, bn_momentum=0.25, bn_passes=0), CPU, tmp_path, Silent())
    assert len(seen) == 8
    expected = torch.stack(seen[:4]).mean(dim=0)  # a quarter each
    for mean in seen[4:]:
        expected = 0.75 * expected + 0.25 * mean
    torch.testing.assert_close(net.state_dict()[f"{FIRST}.running_mean"], expected.detach(), rtol=1e-4, atol=1e-5)


def test_window_does_not_depend_on_the_micro_batch(prepared, tmp_path):
    """The first layer's mean over a step is the same for any number of micro-batches; its weight in time is too."""
    after = {}
    for micro_batch in (8, 2):
        net = network()
        plan = steps(30, micro_batch=micro_batch, rate=1e-12, bn_momentum=0.1, bn_passes=0)
        train(net, videos(prepared), None, plan, CPU, tmp_path / f"{micro_batch}", Silent())
        after[micro_batch] = net.state_dict()
    mean = f"{FIRST}.running_mean"
    spread = after[8][mean].abs().mean()
    assert (after[8][mean] - after[2][mean]).abs().mean() < 0.03 * spread
    assert after[2][f"{FIRST}.num_batches_tracked"] == 4 * after[8][f"{FIRST}.num_batches_tracked"]


# statistics of the final weights --------------------------------------------------------------------------------------


def values_of_a_pass(net: Network, clips, first: int, count: int, micro_batch: int) -> dict[str, Tensor]:
    """All values that each layer sees, (values, C), when `count` samples run in micro-batches; another way to do it."""
    seen: dict[str, list[Tensor]] = {}
    hooks = [
        module.register_forward_hook(
            lambda _, inputs, __, name=name: seen.setdefault(name, []).append(inputs[0].transpose(0, 1).flatten(1))
        )
        for name, module in net.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    net.train()
    order = sample_order(len(clips), 0, first, count)
    with torch.no_grad():
        for start in range(0, count, micro_batch):
            samples = [clips[index] for index in order[start : start + micro_batch]]
            net(*(torch.stack([sample[name] for sample in samples]) for name in clips.sampling.modalities))
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(parts, dim=1).double() for name, parts in seen.items()}


@pytest.mark.parametrize("fused", [False, True])
def test_recomputed_statistics_are_mean_and_variance_of_all_values(prepared, tmp_path, fused):
    net = network(fused=fused, dropout=0.5)
    clips = videos(prepared, chunks=2, modalities=("rgb", "flow") if fused else ("flow",))
    train(net, clips, None, steps(3, batch=10, micro_batch=4), CPU, tmp_path, Silent())
    # 24 videos are three steps of 10: micro-batches of 4, 4 and 2
    made = statistics(net)
    values: dict[str, list[Tensor]] = {}
    for step in range(3, 6):
        for start, size in ((0, 4), (4, 4), (8, 2)):
            for name, part in values_of_a_pass(net, clips, step * 10 + start, size, size).items():
                values.setdefault(name, []).append(part)
    assert len(made) == 2 * len(values) > 30
    for name, parts in values.items():
        joined = torch.cat(parts, dim=1)
        torch.testing.assert_close(made[f"{name}.running_mean"].double(), joined.mean(dim=1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made[f"{name}.running_var"].double(), joined.var(dim=1), rtol=1e-4, atol=1e-6)


def test_sums_of_a_micro_batch_are_few_operations_for_all_layers_and_groups(prepared):
    """A GPU would wait for the launches of many small ones."""

    class Float64Operations(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            found = operation(*args, **(kwargs or {}))
            self.count += any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in tree_leaves(found))
            return found

    counts = []
    for passes in (1, 3):  # of 24 videos, in 6 groups each
        plan, net = steps(1, batch=24, micro_batch=24, bn_group=4, bn_passes=passes), network()
        with Float64Operations() as operations:
            recompute_statistics(Normalisation(net), videos(prepared), plan, 0, CPU, Silent())
        counts.append(operations.count)
    assert 0 < counts[1] - counts[0] < 2 * 10


def test_statistics_depend_on_the_final_weights_alone(prepared, tmp_path):
    """Whatever the running statistics are, they leave no trace; weights are those of a training without a pass."""
    nets = {}
    for name, options in {
        "slow": {"bn_momentum": 0.01},
        "fast": {"bn_momentum": 0.9},
        "running": {"bn_passes": 0},
        "two": {"bn_passes": 2},
    }.items():
        nets[name] = network(dropout=0.3)
        train(nets[name], videos(prepared), None, steps(4, **options), CPU, tmp_path / name, Silent())
    assert equal(weights(nets["slow"]), weights(nets["fast"]))
    learned = {name for name, _ in nets["slow"].named_parameters()}
    for other in ("running", "two"):
        assert all(torch.equal(nets[other].state_dict()[name], nets["slow"].state_dict()[name]) for name in learned)
        assert not equal(statistics(nets[other]), statistics(nets["slow"]))


def test_short_list_is_passed_more_often_but_not_for_long():
    """Samples, in whole steps: the list, or up to 1000 of a short one, or a quarter of what training has seen."""
    expected = {(10, 9537): 9544, (10_000, 9537): 9544, (10_000, 41): 1000, (250, 41): 504, (10, 41): 48}
    assert {key: count_samples(steps(key[0]), key[1]) for key in expected} == expected
    assert count_samples(steps(250, bn_passes=2), 41) == 1008


COMMAND = shlex.split(
    "train-stream --modality flow --arch resnet18 --width 0.125 --weights none --size 32 --batch 8 --micro-batch 4 "
    "--steps 3 --lr 0.05 --schedule cosine --validation 0 --seed 1"
)


def test_training_says_what_the_pass_costs_and_the_model_how_its_statistics_were_made(scratch):
    done = call(*COMMAND, "-w", scratch.root)
    assert done.exit_code == 0, done.stderr
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "batch statistics: recomputing" in line]
    assert re.search(r"from 24 samples of the training list, about \d+ s \(--bn-passes 0 keeps the running", line)
    made = read_description(scratch.newest("model").output("model")).batch_statistics
    layers = {"trained_layers": 21, "frozen_layers": 0}
    assert made == layers | {"made": "recomputed", "samples": 24, "micro_batch": 4}

    done = call(*COMMAND, "--bn-passes", 0, "-w", scratch.root)
    assert "batch statistics" not in done.stdout + done.stderr
    made = read_description(scratch.newest("model").output("model")).batch_statistics
    assert made == layers | {"made": "running", "momentum": 0.05, "micro_batch": 4}


class StopAtPass(Silent):
    """Simulates a crash in the pass that recomputes statistics."""

    def task(self, description, total, unit, done=0):
        if description == "batch statistics":
            raise Interrupted("stopped by the test")
        return super().task(description, total, unit, done)


def test_pass_that_was_killed_starts_over_and_ends_alike(prepared, tmp_path):
    clips, plan = videos(prepared), steps(5)
    whole, killed, resumed = network(), network(), network()
    train(whole, clips, None, plan, CPU, tmp_path / "whole", Silent())
    with pytest.raises(Interrupted):
        train(killed, clips, None, plan, CPU, tmp_path / "killed", StopAtPass())
    assert read_metadata(tmp_path / "killed" / STATE_FILE)["training_state"]["step"] == 5
    train(resumed, clips, None, plan, CPU, tmp_path / "killed", Silent())
    assert equal(weights(resumed), weights(whole))


def test_pass_ends_when_it_is_asked_to(prepared):
    net, stop = network(), threading.Event()
    stop.set()
    with pytest.raises(Interrupted, match="interrupted while recomputing batch statistics; rerun the command"):
        recompute_statistics(Normalisation(net), videos(prepared), steps(1), 0, CPU, Silent(), stop=stop)


def test_weights_that_the_last_step_broke_are_not_saved(prepared, tmp_path):
    with pytest.raises(StmnError, match=r"has NaN or infinite values after step 1; try a lower lr"):
        train(network(), videos(prepared), None, steps(1, rate=float("inf")), CPU, tmp_path, Silent())
    assert not (tmp_path / STATE_FILE).exists()


# frozen layers --------------------------------------------------------------------------------------------------------


def test_frozen_layers_keep_what_the_starting_weights_have(own):
    """Statistics, gains and offsets; partial trains the first layer of each stream, and frozen none."""
    start = {}
    for label in ("appearance", "motion"):
        start |= load_file(own.find_input(label, "model").path)
    first = {f"streams.{stream}.backbone.bn1" for stream in ("appearance", "motion")}
    for mode, trained in (("frozen", set()), ("partial", first)):
        done = call(
            *shlex.split("fuse --chunks 2 --stride-min 1 --stride-max 2 --batch 8 --micro-batch 4 --steps 2 --lr 0.05"),
            *shlex.split(f"--schedule cosine --validation 0 --bn {mode} -w"), own.root,
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        path = own.newest("model").output("model")
        after = load_file(path)
        layers = {name.removesuffix(".running_mean") for name in after if name.endswith("running_mean")}
        assert len(layers) == 42
        for layer in layers:
            for what in ("running_mean", "running_var", "weight", "bias", "num_batches_tracked"):
                same = torch.equal(after[f"{layer}.{what}"], start[f"{layer}.{what}"])
                assert same == (layer not in trained), f"{mode}: {layer}.{what}"
        name = "streams.motion.backbone.layer4.1.conv2.weight"
        assert not torch.equal(after[name], start[name])  # convolutions train
        made = read_description(path).batch_statistics
        assert (made["trained_layers"], made["frozen_layers"]) == (len(trained), 42 - len(trained))
        assert ("made" in made) == bool(trained)
        assert ("batch statistics: recomputing" in done.stdout + done.stderr) == bool(trained)


@pytest.mark.parametrize("mode", ["frozen", "partial"])
def test_frozen_layers_need_starting_weights(scratch, mode):
    done = call(*COMMAND, "--bn", mode, "-w", scratch.root)
    assert errors_of(done) == [
        f"bn = {mode} keeps the batch statistics of the starting weights, and random weights have none: name weights, "
        f"or use bn = train"
    ]
    assert not list(scratch.runs())
