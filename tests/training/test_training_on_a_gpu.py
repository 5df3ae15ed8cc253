"""Training on a GPU: what it learns is what a CPU learns, in every way in which a GPU is used.

`make test-cuda` runs these. None of them has run yet.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.alike import assert_alike, check_compiled, check_device, check_groups, check_ranks, trained
from helpers.commands import call, errors_of, over, start, write_recipe
from helpers.devices import limit_gpu_memory
from helpers.trainings import equal, network, steps, videos
from safetensors.torch import load_file
from torch import Tensor, nn

import stmn
from stmn.evaluation.scores import load_scores
from stmn.runtime.device import Device, choose_device
from stmn.runtime.progress import Silent
from stmn.runtime.ranks import Ranks
from stmn.training.loop import train
from stmn.training.state import STATE_FILE
from stmn.training.waiting import DataWait
from stmn.workspace import Workspace

pytestmark = pytest.mark.cuda

STREAM = shlex.split(
    "train-stream --modality flow --arch resnet18 --width 0.25 --weights none --size 32 --batch 8 --micro-batch 4 "
    "--steps 4 --lr 0.005 --schedule cosine --validation 0 --seed 1 --dropout 0.5"
)


def last_row(run) -> dict:
    return json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])


# the same as on a CPU -------------------------------------------------------------------------------------------------


def test_every_stage_of_a_recipe_is_what_it_is_on_a_cpu(scratch, tmp_path):
    """float32 throughout: losses to a thousandth, scores and features to a hundredth of the largest."""
    tiny = (
        'arch = "resnet18"\nwidth = 0.25\nsize = 32\nweights = "none"\nbatch = 8\nmicro_batch = 8\nsteps = 3\nlr = 0.005\n'
        'schedule = "cosine"\nvalidation = 0.0\nprecision = "float32"\n'
    )
    recipe = write_recipe(
        tmp_path / "small.toml", 'name = "small"\ndata = "synthetic"\nseed = 3',
        f'id = "appearance"\nuses = "train-stream"\nmodality = "rgb"\n{tiny}',
        f'id = "motion"\nuses = "train-stream"\nmodality = "flow"\n{tiny}',
        'id = "fused"\nuses = "fuse"\nappearance = "appearance"\nmotion = "motion"\nchunks = 2\nbatch = 8\nmicro_batch = 8\n'
        'steps = 3\nlr = 0.001\nvalidation = 0.0\nprecision = "float32"',
        'id = "test"\nuses = "evaluate"\nmodel = "fused"',
        'id = "file"\nuses = "export"\nmodel = "fused"\nformat = "safetensors"',
        'id = "page"\nuses = "report"\nevaluations = ["test"]',
    )  # fmt: skip
    losses, scores, features = {}, [], []
    for device in ("cpu", "cuda"):
        space = Workspace(tmp_path / device)
        space.root.mkdir()
        os.symlink(scratch.root / "data", space.root / "data")
        done = call("run", recipe, "-w", space.root, "--device", device)
        assert done.exit_code == 0, done.stderr
        losses[device] = [last_row(run)["loss"] for run in space.runs() if (run.path / "metrics.jsonl").exists()]
        scores.append(load_scores(space.newest("scores").output("scores")).mean())
        out = tmp_path / f"{device}.safetensors"
        video = next((scratch.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
        done = call("features", "fused-multiply", video, "--out", out, "-w", space.root, "--device", device)
        assert done.exit_code == 0, done.stderr
        features.append(load_file(out))
        model = stmn.load(space.find_input("fused-multiply", "model").path, device=device)
        assert len(model.predict(video)) == 4
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=0.01 * float(scores[0].abs().max()))
    assert features[0].keys() == features[1].keys()
    for name, values in features[0].items():
        torch.testing.assert_close(features[1][name], values, rtol=0, atol=0.01 * float(values.abs().max()))


@pytest.mark.parametrize("injector", ["none", "residual_and_skip"])
@pytest.mark.parametrize("fused", [False, True])
def test_float32_learns_the_weights_of_a_cpu(prepared, tmp_path, fused, injector):
    check_device(prepared, tmp_path, choose_device("cuda", "float32"), fused, injector)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("compiled", [{}, {"compile": "inductor"}])
def test_groups_of_a_large_micro_batch_learn_as_separate_ones(prepared, tmp_path, precision, compiled):
    """14 videos in groups of 4 leave a smaller last one."""
    check_groups(prepared, tmp_path, choose_device("cuda", precision), compiled)


# how a GPU is used ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [None, "reduce-overhead"])
def test_compiled_network_and_cuda_graphs_learn_the_same(prepared, tmp_path, mode):
    """A graph keeps its memory and uses it again: gradients of several micro-batches must add up all the same."""
    check_compiled(prepared, tmp_path, choose_device("cuda", "float32"), {"compile": "inductor", "compile_mode": mode})


def test_step_waits_for_nothing(prepared, tmp_path):
    """torch raises an error where the host would wait for the GPU; only rows of the log and the end may."""

    class NoWaiting(Silent):
        done = 0

        def advance(self, count: int = 1, **fields: object) -> None:
            self.done += count
            torch.cuda.set_sync_debug_mode("error" if 2 <= self.done < 6 else "default")

    torch.manual_seed(0)
    net, clips = network(0.5, fused=True), videos(prepared, chunks=2, modalities=("rgb", "flow"))
    plan = steps(8, micro_batch=8, bn_group=4, log_every=100, clip=1.0, ema=0.9, bn_momentum=0.5, bn_passes=0)
    try:
        train(net, clips, None, plan, choose_device("cuda", "float32"), tmp_path, NoWaiting())
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_deterministic_training_gives_the_same_bits_twice(prepared, tmp_path):
    device, plan = choose_device("cuda", "bfloat16"), steps(4, micro_batch=4)
    runs = [trained(prepared, tmp_path / str(n), device, plan, deterministic=True, dropout=0.5) for n in range(2)]
    assert equal(runs[0].weights, runs[1].weights)


def test_tf32_is_used_where_it_is_asked_for_alone(prepared, tmp_path):
    """On networks this small it may change a little, and in float32 nothing."""
    plan = steps(3, rate=0.005)
    exact, again, coarse = (
        trained(prepared, tmp_path / name, choose_device("cuda", precision), plan, deterministic=True)
        for name, precision in (("exact", "float32"), ("again", "float32"), ("coarse", "tf32"))
    )
    assert equal(exact.weights, again.weights) and not equal(exact.weights, coarse.weights)
    assert coarse.rows[-1]["loss"] == pytest.approx(exact.rows[-1]["loss"], rel=0.02)


def test_broken_step_changes_no_weight(prepared, tmp_path):
    """The GPU is a step ahead when the host gets to know of it."""
    net, clips, seen = network(), videos(prepared), []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append({name: value.detach().clone() for name, value in net.named_parameters()})
        return tuple(x * (float("nan") if len(seen) == 4 else 1.0) for x in inputs)

    net.get_submodule("streams.motion.backbone.conv1").register_forward_pre_hook(look)
    with pytest.raises(stmn.errors.StmnError, match="the loss is not finite at step 3; the batch holds"):
        train(net, clips, None, steps(8), choose_device("cuda", "float32"), tmp_path, Silent())
    assert all(torch.equal(value, seen[3][name]) for name, value in net.named_parameters())


def test_interrupted_training_resumes_to_the_same_bits(scratch):
    command = [*over(STREAM, "--steps", 200), "--deterministic", "--checkpoint-minutes", "0.001", "--device", "cuda"]
    process = start(*command, "-w", scratch.root)
    try:
        while process.poll() is None and not [*scratch.runs_dir.glob(f"*/{STATE_FILE}")]:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    finally:
        process.kill()
    [state] = scratch.runs_dir.glob(f"*/{STATE_FILE}")
    resumed = call(*command, "-w", scratch.root)
    assert resumed.exit_code == 0 and "continuing at step" in resumed.stderr, resumed.stderr
    found = load_file(state.parent / "model.safetensors")
    whole = call(*command, "--no-resume", "--force", "-w", scratch.root)
    assert whole.exit_code == 0
    assert equal(found, load_file(state.parent / "model.safetensors"))


def test_memory_that_runs_out_ends_in_one_line_and_fewer_groups_fit(scratch):
    """The GPU gives 400 MB more than is in use; the network alone takes a part of it."""
    choose_device("cuda")
    line = over(STREAM, "--width", 1, "--size", 128, "--batch", 64, "--micro-batch", 64, "--bn-group", 4, "--chunks", 4,
                "--stride-min", 1, "--stride-max", 1, "--steps", 1)  # fmt: skip
    with limit_gpu_memory(400e6):
        done = call(*line, "-w", scratch.root, "--device", "cuda")
    assert done.exit_code == 1
    [said] = errors_of(done)
    assert said.startswith("out of memory on the GPU (")
    assert "micro-batches of 64 are too large: try --micro-batch 32 --bn-group 4; its groups stay as they are" in said
    assert call(*over(line, "--micro-batch", 32), "-w", scratch.root, "--device", "cuda").exit_code == 0


# several processes, several GPUs ---------------------------------------------------------------------------------------


class OneOfNccl(Ranks):
    """A process alone that does all that several do over NCCL: its gradients and numbers go through collectives.

    It says that it is alone to all else, as two would share the samples of a step.
    """

    def wrap(self, learner: nn.Module, device: Device) -> nn.Module:
        self.size = 2
        try:
            return super().wrap(learner, device)
        finally:
            self.size = 1

    def all_reduce(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor)
        return tensor


@pytest.mark.parametrize("compiled", [{}, {"compile": "inductor", "compile_mode": "reduce-overhead"}])
def test_nccl_on_one_gpu_changes_nothing(prepared, tmp_path, compiled):
    """Nor do CUDA graphs, whose gradients are averaged outside them."""
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1, device_id=torch.device("cuda", 0))
    try:
        check_ranks(prepared, tmp_path, choose_device("cuda", "float32"), compiled, OneOfNccl())
        reduced = OneOfNccl().all_reduce(torch.ones(3, device="cuda"))
        assert reduced.tolist() == [1, 1, 1]
    finally:
        dist.destroy_process_group()


def torchrun(processes: int, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """Run `stmn` as so many processes."""
    command = [str(Path(sys.executable).with_name("torchrun")), f"--nproc-per-node={processes}", "-m", "stmn"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )  # fmt: skip


def test_more_processes_than_gpus_are_refused_in_one_line(scratch):
    one = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]
    done = torchrun(2, *STREAM, "-w", scratch.root, "--device", "cuda", CUDA_VISIBLE_DEVICES=one)
    assert done.returncode != 0
    assert errors_of(done) == [
        "torchrun started more processes than this machine has CUDA devices, 1: use --nproc-per-node 1, or --device cpu"
    ]


@pytest.mark.cuda(gpus=2)
def test_two_gpus_train_the_network_of_one(scratch):
    """Eight groups of a step, four on each GPU; running statistics are merged. And they test it with its scores."""
    command = [*over(STREAM, "--micro-batch", 2, "--bn-group", 1, "--chunks", 4, "--stride-min", 1, "--stride-max", 1),
               "--precision", "float32", "--device", "cuda"]  # fmt: skip
    assert call(*command, "-w", scratch.root).exit_code == 0
    [run] = scratch.runs()
    expected, row = load_file(run.path / "model.safetensors"), last_row(run)
    done = torchrun(2, *command, "--force", "-w", scratch.root)
    assert done.returncode == 0, done.stderr
    assert last_row(run)["loss"] == pytest.approx(row["loss"], rel=1e-3)
    assert_alike(load_file(run.path / "model.safetensors"), expected, 0.01)
    test, scores = ["evaluate", "--precision", "float32", "--device", "cuda", "--force", "-w", scratch.root], []
    for several in (False, True):
        done = torchrun(2, *test) if several else call(*test)
        assert (done.returncode if several else done.exit_code) == 0, done.stderr
        scores.append(load_scores(scratch.newest("scores").output("scores")).mean())
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=1e-4 * float(scores[0].abs().max()))


@pytest.mark.cuda(gpus=2)
def test_second_gpu_leaves_the_first_alone(scratch):
    """Training, testing and predicting on `cuda:1` open no context on GPU 0."""
    video = next((scratch.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    code = f"""
import sys, torch
from stmn.cli.main import main
for words in ({STREAM!r}, ["evaluate"], ["predict", "motion-resnet18", {str(video)!r}]):
    sys.argv = ["stmn", *words, "-w", {str(scratch.root)!r}, "--device", "cuda:1"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
    assert torch._C._cuda_hasPrimaryContext(1) and not torch._C._cuda_hasPrimaryContext(0), words
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_only_an_idle_gpu_waits_for_data():
    """A host that waits for a slow batch costs nothing while the GPU still computes the one before."""
    wait, batches = DataWait(choose_device("cuda")), slow_batches(seconds=0.2)
    torch.cuda.synchronize()
    wait.next(batches)
    assert 0.15 < wait.take() < 1.0
    torch.cuda._sleep(4_000_000_000)  # cycles: two seconds or more
    wait.next(batches)
    assert wait.take() < 0.05


def slow_batches(seconds: float) -> Iterator[dict[str, Tensor]]:
    while True:
        time.sleep(seconds)
        yield {}
