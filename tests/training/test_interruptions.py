"""Whatever stops training, the same command resumes it as if nothing had happened."""

import json
import random
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from conftest import train_tiny
from helpers.commands import call, errors_of, start
from helpers.trainings import CPU, WIDTH, equal, network, steps, videos, weights
from safetensors.torch import load_file
from torch import Tensor

from stmn.errors import CheckpointError, Interrupted, StmnError
from stmn.runtime.progress import Silent
from stmn.runtime.tensor_files import read_metadata
from stmn.sampling.clips import Clips
from stmn.sampling.validation import hold_out
from stmn.training.loop import train
from stmn.training.plan import Plan
from stmn.training.schedule import Schedule
from stmn.training.state import STATE_FILE
from stmn.workspace import Workspace, read_run


class Stop(Silent):
    """Simulates a crash: raises in the loop after some steps, so that no state is saved then."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, count: int = 1, **fields: object) -> None:
        self.left -= count
        if self.left < 0:
            raise Interrupted("stopped by the test")


@pytest.mark.parametrize("more", [
    pytest.param({}, marks=pytest.mark.slow),
    {"optimizer": "adamw", "ema": 0.9, "keep_best": True, "clip": 0.5, "label_smoothing": 0.1, "class_weights": True},
])  # fmt: skip
def test_interrupted_fused_run_resumes_bit_for_bit(prepared, tmp_path, more):
    clips = videos(prepared, chunks=2, modalities=("rgb", "flow"))
    lists = hold_out(clips.videos, 0.3, seed=0)
    kept, held = lists.kept, lists.held_out
    parts = [Clips(clips.store, part, clips.sampling) for part in (kept, held)]
    plan = Plan(
        7, 4, 2, schedule=Schedule("plateau", 0.05, 7, patience=3), seed=3, validate_every=2, log_every=2,
        checkpoint_minutes=1e-9, **more,
    )  # fmt: skip
    whole = network(dropout=0.5, fused=True)
    undisturbed = train(whole, *parts, plan, CPU, tmp_path / "whole", Silent())
    for steps_done in (1, 4):
        folder = tmp_path / f"{steps_done}"
        with pytest.raises(Interrupted):
            train(network(dropout=0.5, fused=True), *parts, plan, CPU, folder, Stop(after=steps_done))
        assert read_metadata(folder / STATE_FILE)["training_state"]["step"] == steps_done
        resumed = network(dropout=0.5, fused=True)
        state = train(resumed, *parts, plan, CPU, folder, Silent())
        assert equal(weights(resumed), weights(whole))
        assert state.errors == undisturbed.errors
        assert logged(folder) == logged(tmp_path / "whole")
    assert [row["step"] for row in logged(folder)] == [2, 4, 6, 7]  # each row once


def logged(folder: Path) -> list[dict[str, object]]:
    """The rows of a training's log, apart from times."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key not in ("videos_per_second", "data_wait")} for row in rows]


def test_damaged_state_is_refused_in_one_line(prepared, tmp_path):
    with pytest.raises(Interrupted):
        train(network(), videos(prepared), None, steps(5, checkpoint_minutes=1e-9), CPU, tmp_path, Stop(after=2))
    whole = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is damaged") as error:
        train(network(), videos(prepared), None, steps(5), CPU, tmp_path, Silent())
    assert "\n" not in str(error.value)


# The same training run, as options of a stage and as a command line.
STEPS = 60
OPTIONS = {"width": WIDTH, "dropout": 0.3, "steps": STEPS}
COMMAND = (
    f"train-stream --modality flow --arch resnet18 --width {WIDTH} --weights none --size 32 --dropout 0.3 --batch 8 "
    f"--micro-batch 8 --steps {STEPS} --lr 0.05 --schedule cosine --validation 0 --seed 1 --checkpoint-minutes 1e-9"
).split()


@pytest.fixture(scope="module")
def undisturbed(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of that run when nothing interrupts it."""
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"))
    shutil.copytree(prepared.root / "data", workspace.root / "data")
    return load_file(train_tiny(workspace, "flow", **OPTIONS).output("model"))


def started(workspace: Workspace, step: int) -> tuple[subprocess.Popen, Path]:
    """The command as a process that has saved its state at `step` or later, and the run's folder."""
    # one thread, as in this process, so that sums have the same order
    process = start(*COMMAND, "--workspace", workspace.root, env={"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for path in workspace.runs_dir.glob(f"*/{STATE_FILE}"):
            if read_metadata(path)["training_state"]["step"] >= step:
                return process, path.parent
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"no state of step {step} was saved: {process.communicate()}")


def test_killed_training_ends_with_the_undisturbed_weights(scratch, undisturbed):
    step = random.randint(1, STEPS - 20)
    print(f"killed after step {step}")  # shown if the test fails
    process, folder = started(scratch, step)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert read_run(folder).record["status"] == "running" and not (folder / "model.safetensors").exists()
    assert step <= read_metadata(folder / STATE_FILE)["training_state"]["step"] < STEPS

    run = train_tiny(scratch, "flow", **OPTIONS)
    assert run.path == folder  # the command's run and this one are the same run
    assert equal(load_file(run.output("model")), undisturbed)
    assert not (folder / STATE_FILE).exists()  # a finished run keeps only its model
    rows = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(10, STEPS + 1, 10))


def test_ctrl_c_exits_with_130_and_the_command_resumes(scratch, undisturbed):
    process, folder = started(scratch, step=2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = errors_of(subprocess.CompletedProcess([], 130, "", stderr))
    step = re.fullmatch(rf"interrupted at step (\d+) of {STEPS}; rerun the command to continue", line).group(1)
    assert "Traceback" not in stderr
    assert read_run(folder).record["status"] == "interrupted"

    again = call(*COMMAND, "--workspace", scratch.root)
    assert again.exit_code == 0
    assert f"continuing at step {step} of {STEPS}" in again.stderr and "starting from" not in again.stderr
    assert equal(load_file(folder / "model.safetensors"), undisturbed)
    assert "up to date" in call(*COMMAND, "--workspace", scratch.root).stderr


FUSE = shlex.split(
    "fuse --chunks 2 --stride-min 1 --stride-max 2 --batch 8 --micro-batch 4 --steps 30 --lr 0.02 --schedule "
    "cosine --validation 0 --seed 1 --checkpoint-minutes 1e-9"
)
OTHER = [*COMMAND, "--steps", "30"]


@pytest.mark.parametrize(("world", "command", "label"), [
    pytest.param("scratch", OTHER, "motion", marks=pytest.mark.slow), ("own", FUSE, "fused"),
])  # fmt: skip
@pytest.mark.slow
def test_repeated_kills_even_in_writing_change_no_weights(world, command, label, request, tmp_path):
    workspace = request.getfixturevalue(world)
    whole = Workspace(tmp_path / "whole")
    shutil.copytree(workspace.root, whole.root)
    one = {"OMP_NUM_THREADS": "1"}
    undisturbed = start(*command, "--workspace", whole.root, env=one)

    kills = 0
    while kills < 4:  # a state is written at each step, so a random moment is often within a write
        before = reached(workspace)
        process = start(*command, "--workspace", workspace.root, env=one)
        while process.poll() is None and reached(workspace) <= before:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.15))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
    assert kills >= 2
    again = start(*command, "--workspace", workspace.root, env=one)
    for last in (again, undisturbed):
        _, stderr = last.communicate(timeout=120)
        assert last.returncode == 0, stderr
    (run,), (expected,) = ([r for r in w.runs() if r.name.startswith(label)][:1] for w in (workspace, whole))
    assert run.name == expected.name
    assert equal(load_file(run.output("model")), load_file(expected.output("model")))
    assert sorted(p.name for p in run.path.iterdir()) == ["metrics.jsonl", "model.safetensors", "run.json"]


def reached(workspace: Workspace) -> int:
    """The step of the saved state; -1 if there is none."""
    found = [read_metadata(path)["training_state"]["step"] for path in workspace.runs_dir.glob(f"*/{STATE_FILE}")]
    return max(found, default=-1)


@pytest.mark.slow
def test_no_resume_starts_an_interrupted_run_over(scratch, undisturbed):
    process, folder = started(scratch, step=3)
    process.kill()
    process.communicate()
    again = call(*COMMAND, "--no-resume", "--workspace", scratch.root)
    assert again.exit_code == 0 and "continuing" not in again.stderr
    assert equal(load_file(folder / "model.safetensors"), undisturbed)


def test_non_finite_loss_names_step_videos_and_a_good_state(scratch):
    with pytest.raises(StmnError, match=r"the loss is not finite at step \d+; the batch holds train/") as error:
        train_tiny(scratch, "flow", lr=1e30, width=WIDTH, steps=40, micro_batch=4, checkpoint_minutes=1e-9)
    text = str(error.value)
    assert "\n" not in text and text.endswith("try a lower lr")
    step, names, kept = re.search(r"step (\d+); the batch holds (.*?); the last good state is (.*?); ", text).groups()
    assert set(names.split(", ")) <= {video.id for video in videos(scratch).videos} and 0 < int(step) < 40
    assert len(names.split(", ")) <= 4  # only those of the bad micro-batch
    (run,) = scratch.runs()
    assert run.record["status"] == "failed" and not (run.path / "model.safetensors").exists()
    # the state is from before the step that broke it, not the broken weights that followed
    assert read_metadata(Path(kept))["training_state"]["step"] < int(step)
    values = load_file(kept)
    assert len(values) > 40 and all(torch.isfinite(value.float()).all() for value in values.values())
    assert max(float(value.abs().max()) for name, value in values.items() if name.endswith("weight")) < 100


def test_non_finite_gradient_stops_training(prepared, tmp_path):
    net, before = network(), weights(network())
    net.stream("motion").fc.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(StmnError, match="the gradient is not finite at step 0; the batch holds train/") as error:
        train(net, videos(prepared), None, steps(3), CPU, tmp_path, Silent())
    assert "no state was saved before" in str(error.value)
    learned = {name for name, _ in net.named_parameters()}
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in learned)  # no update followed
