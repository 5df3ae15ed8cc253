"""The training loop: it learns, it adds up, and whatever stops it, the same command goes on as if nothing had happened."""

import json
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from commands import call, errors_of, start
from conftest import train_tiny
from safetensors.torch import load_file
from torch import Tensor, nn

from stmn.device import choose
from stmn.errors import CheckpointError, Interrupted, StmnError, UsageError
from stmn.nets.checkpoint import read_about
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig
from stmn.nets.network import Network, build_network
from stmn.progress import Silent
from stmn.sampling.clips import Clips, Sampling, split_validation
from stmn.store.reader import Store
from stmn.training.loop import Plan, parameter_groups, stream_losses, train, validate
from stmn.training.schedule import Schedule
from stmn.training.state import FILE
from stmn.workspace import Workspace, read_run

WIDTH = 0.125
CPU = choose("cpu")


def videos(prepared: Workspace, chunks: int = 1, seed: int = 0, modalities: tuple[str, ...] = ("flow",)) -> Clips:
    """The training videos of the synthetic set, 32 pixels wide."""
    store = Store(prepared.data_dir("synthetic"), cache_bytes=64 << 20)
    sampling = Sampling(modalities, size=32, stack_length=10, chunks=chunks, stride=(1, 2), seed=seed)
    return Clips(store, store.part("1", "train"), sampling)


def network(dropout: float = 0.0, fused: bool = False) -> Network:
    """A narrow ResNet-18 on flow, or two tied ones."""
    streams = [StreamConfig(modality="flow", arch="resnet18", width=WIDTH, dropout=dropout)]
    if fused:
        streams.insert(0, StreamConfig(modality="rgb", arch="resnet18", width=WIDTH))
    return build_network(
        NetworkConfig(
            classes=["down", "left", "right", "up"], size=32, stack_length=10, streams=streams,
            gate=GateConfig() if fused else None,
        )
    )  # fmt: skip


def steps(count: int, batch: int = 8, micro_batch: int = 8, rate: float = 0.05, seed: int = 0, **more: object) -> Plan:
    schedule = Schedule("cosine", rate, count)
    return Plan(count, batch, micro_batch, schedule=schedule, seed=seed, **more)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """The same names, and the same values to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_training_learns_its_videos(prepared, tmp_path):
    clips, net, plan = videos(prepared), network(), steps(60)
    state = train(net, clips, None, plan, CPU, tmp_path, Silent())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == state.history
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert rows[-1]["epoch"] == 20  # 60 steps of 8 of 24 videos
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["accuracy"] > 0.6
    assert validate(net, clips, plan, CPU) > 0.6  # chance is 0.25


def test_the_loss_is_one_soft_max_loss_per_stream_added():
    scores = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]]), torch.tensor([[0.0, 3.0, 0.0], [1.0, 0.0, 0.0]])
    label = torch.tensor([0, 2])
    by_hand = sum((s.exp().sum(dim=1).log() - s[torch.arange(2), label]).mean() for s in scores)
    assert float(stream_losses(scores, label)) == pytest.approx(float(by_hand))


def test_weights_decay_and_biases_and_normalisation_do_not():
    net = network(fused=True)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in parameter_groups(net, 5e-4))
    assert decayed | plain == set(names.values()) and not decayed & plain
    assert all(name.endswith("weight") for name in decayed)
    assert "streams.motion.backbone.layer1.0.conv1.weight" in decayed
    assert {"streams.motion.backbone.layer1.0.bn1.weight", "streams.motion.fc.bias"} <= plain
    assert [group["weight_decay"] for group in parameter_groups(net, 5e-4)] == [5e-4, 0.0]


def with_frozen_statistics(net: Network) -> Network:
    """Batch normalisation that uses its running statistics in training too."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return net


def test_micro_batches_add_up_to_the_gradient_of_the_whole_batch(prepared, tmp_path):
    """Exactly so without batch statistics. With them, each micro-batch is normalised by its own (section 4.1)."""
    after = {}
    for micro_batch in (8, 3, 2):  # 3 leaves a rest of 2
        net = with_frozen_statistics(network())
        plan = steps(3, micro_batch=micro_batch)
        train(net, videos(prepared), None, plan, CPU, tmp_path / f"{micro_batch}", Silent())
        after[micro_batch] = weights(net)
    before = weights(network())
    assert not torch.allclose(after[8]["streams.motion.fc.weight"], before["streams.motion.fc.weight"], atol=1e-4)
    for micro_batch in (3, 2):
        for name, value in after[8].items():
            torch.testing.assert_close(after[micro_batch][name], value, rtol=1e-4, atol=1e-6)

    whole, parts = network(), network()
    for net, micro_batch in ((whole, 8), (parts, 2)):
        train(
            net, videos(prepared), None, steps(1, micro_batch=micro_batch), CPU, tmp_path / f"bn{micro_batch}", Silent()
        )
    name = "streams.motion.backbone.bn1.running_var"
    assert not torch.allclose(weights(whole)[name], weights(parts)[name], rtol=1e-3)


def test_a_run_is_a_function_of_its_seed_dropout_too(prepared, tmp_path):
    def trained(number: int, dropout: float, seed: int) -> dict[str, Tensor]:
        net = network(dropout)
        torch.manual_seed(number)  # what happened before does not matter
        train(net, videos(prepared, seed=seed), None, steps(3, seed=seed), CPU, tmp_path / f"{number}", Silent())
        return weights(net)

    first = trained(1, dropout=0.5, seed=1)
    assert equal(trained(2, dropout=0.5, seed=1), first)
    assert not equal(trained(3, dropout=0.5, seed=2), first)
    assert not equal(trained(4, dropout=0.0, seed=1), first)


def test_both_streams_of_a_tied_network_train_from_one_batch(prepared, tmp_path):
    net = network(fused=True)
    before = weights(net)
    clips = videos(prepared, chunks=2, modalities=("rgb", "flow"))
    state = train(net, clips, None, steps(2, weight_decay=0.0), CPU, tmp_path, Silent())
    assert state.step == 2
    for stream in ("appearance", "motion"):
        for layer in ("backbone.conv1.weight", "backbone.layer4.1.bn2.weight", "fc.weight"):
            assert not torch.equal(net.state_dict()[f"streams.{stream}.{layer}"], before[f"streams.{stream}.{layer}"])


def test_plateau_training_ends_when_the_validation_error_has_saturated_three_times(prepared, tmp_path):
    clips = videos(prepared)
    kept, held = split_validation(clips.videos, 0.3, seed=0)
    schedule = Schedule("plateau", rate=1e-12, steps=300, patience=1)  # nothing is learned, so nothing gets better
    plan = Plan(300, 4, 4, schedule=schedule, seed=0, validate_every=5, log_every=5)
    parts = (Clips(clips.store, part, clips.sampling) for part in (kept, held))
    net = network()
    for module in net.modules():  # or else the running statistics change the error
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    state = train(net, *parts, plan, CPU, tmp_path, Silent())
    assert len(set(state.errors)) == 1
    assert state.step == 20  # a first error, and three that are no better
    assert [row["rate"] for row in state.history] == pytest.approx([1e-12, 1e-12, 1e-13, 1e-14])


def test_a_loss_that_is_not_finite_stops_with_one_line_naming_step_and_videos(scratch):
    with pytest.raises(StmnError, match=r"the loss is not finite at step \d+; the batch holds train/") as error:
        train_tiny(scratch, "flow", lr=1e30, width=WIDTH, steps=40)
    text = str(error.value)
    assert "\n" not in text and text.endswith("try a lower lr")
    step, names = re.search(r"step (\d+); the batch holds (.*?); ", text).groups()
    clips = videos(scratch)
    assert set(names.split(", ")) <= {video.id for video in clips.videos} and 0 < int(step) < 40
    (run,) = scratch.runs()
    assert run.record["status"] == "failed" and not (run.path / "model.safetensors").exists()


def test_a_micro_batch_of_a_single_value_has_no_statistics_and_is_refused(prepared, tmp_path):
    with pytest.raises(UsageError, match=r"batch = 5 with micro_batch = 4 .* one chunk") as error:
        train(network(), videos(prepared), None, steps(2, batch=5, micro_batch=4), CPU, tmp_path, Silent())
    assert "\n" not in str(error.value)
    train(network(), videos(prepared, chunks=2), None, steps(1, batch=1, micro_batch=1), CPU, tmp_path, Silent())


class Stop(Silent):
    """Stands for a crash at a step: it comes as an exception out of the loop, and nothing is saved then."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, count: int = 1, **fields: object) -> None:
        self.left -= count
        if self.left < 0:
            raise Interrupted("stopped by the test")


def test_an_interrupted_run_with_validation_dropout_and_two_streams_goes_on_bit_by_bit(prepared, tmp_path):
    clips = videos(prepared, chunks=2, modalities=("rgb", "flow"))
    kept, held = split_validation(clips.videos, 0.3, seed=0)
    parts = [Clips(clips.store, part, clips.sampling) for part in (kept, held)]
    plan = Plan(
        7, 4, 2, schedule=Schedule("plateau", 0.05, 7, patience=3), seed=3, validate_every=2, log_every=2,
        checkpoint_minutes=1e-9,
    )  # fmt: skip
    whole = network(dropout=0.5, fused=True)
    undisturbed = train(whole, *parts, plan, CPU, tmp_path / "whole", Silent())
    for steps_done in (1, 4):
        folder = tmp_path / f"{steps_done}"
        with pytest.raises(Interrupted):
            train(network(dropout=0.5, fused=True), *parts, plan, CPU, folder, Stop(after=steps_done))
        assert read_about(folder / FILE)["training_state"]["step"] == steps_done
        resumed = network(dropout=0.5, fused=True)
        state = train(resumed, *parts, plan, CPU, folder, Silent())
        assert equal(weights(resumed), weights(whole))
        assert state.errors == undisturbed.errors
        rows = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert rows == [2, 4, 6, 7]  # each once


def test_a_damaged_state_is_refused_in_one_line(prepared, tmp_path):
    with pytest.raises(Interrupted):
        train(network(), videos(prepared), None, steps(5, checkpoint_minutes=1e-9), CPU, tmp_path, Stop(after=2))
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated or damaged") as error:
        train(network(), videos(prepared), None, steps(5), CPU, tmp_path, Silent())
    assert "\n" not in str(error.value)


# The same training as options of a stage and as a command line.
STEPS = 60
OPTIONS = {"width": WIDTH, "dropout": 0.3, "steps": STEPS}
COMMAND = (
    f"train-stream --modality flow --arch resnet18 --width {WIDTH} --weights none --size 32 --dropout 0.3 --batch 8 "
    f"--micro-batch 8 --steps {STEPS} --lr 0.05 --schedule cosine --validation 0 --seed 1 --checkpoint-minutes 1e-9"
).split()


@pytest.fixture(scope="module")
def undisturbed(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of that training when nothing happens to it."""
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"))
    shutil.copytree(prepared.root / "data", workspace.root / "data")
    return load_file(train_tiny(workspace, "flow", **OPTIONS).output("model"))


def started(workspace: Workspace, step: int) -> tuple[subprocess.Popen, Path]:
    """The command as a process that has saved its state at `step` or later; and the run's folder."""
    # one thread as in this process, so that sums are taken in the same order
    process = start(*COMMAND, "--workspace", workspace.root, env={"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for path in workspace.runs_dir.glob(f"*/{FILE}"):
            if read_about(path)["training_state"]["step"] >= step:
                return process, path.parent
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"no state of step {step} was saved: {process.communicate()}")


def test_a_killed_training_goes_on_to_the_weights_of_an_undisturbed_one(scratch, undisturbed):
    step = random.randint(1, STEPS - 20)
    print(f"killed after step {step}")  # shown when the test fails
    process, folder = started(scratch, step)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert read_run(folder).record["status"] == "running" and not (folder / "model.safetensors").exists()
    assert step <= read_about(folder / FILE)["training_state"]["step"] < STEPS

    run = train_tiny(scratch, "flow", **OPTIONS)
    assert run.path == folder  # the command line's run and this one are the same piece of work
    assert equal(load_file(run.output("model")), undisturbed)
    assert not (folder / FILE).exists()  # a finished run keeps its model alone
    rows = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(10, STEPS + 1, 10))


def test_ctrl_c_ends_with_130_and_one_line_and_the_same_command_continues(scratch, undisturbed):
    process, folder = started(scratch, step=2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = errors_of(subprocess.CompletedProcess([], 130, "", told))
    step = re.fullmatch(rf"interrupted at step (\d+) of {STEPS}; the same command continues there", line).group(1)
    assert "Traceback" not in told
    assert read_run(folder).record["status"] == "interrupted"

    again = call(*COMMAND, "--workspace", scratch.root)
    assert again.exit_code == 0
    assert f"continuing at step {step} of {STEPS}" in again.stderr
    assert equal(load_file(folder / "model.safetensors"), undisturbed)
    assert "up to date" in call(*COMMAND, "--workspace", scratch.root).stderr
