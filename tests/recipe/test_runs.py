"""Runs and their folders: one process at a time, what an upgrade changes, and why a run is a new one."""

import json
import os
import platform
import re
import signal
import time

import pytest
from conftest import train_tiny
from helpers.commands import call, errors_of, start
from helpers.packages import on_path

from stmn.runtime.tensor_files import read_metadata
from stmn.stages.train_stream import TrainStream
from stmn.workspace import Run, Workspace, read_run

LONG = [
    "train-stream",
    "--modality",
    "flow",
    "--arch",
    "resnet18",
    "--width",
    "0.125",
    "--weights",
    "none",
    "--size",
    "32",
    "--batch",
    "8",
    "--micro-batch",
    "8",
    "--steps",
    "{steps}",
    "--schedule",
    "cosine",
    "--validation",
    "0",
]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

GATE = """
from stmn.nets.fusions import Multiply
class Gate(Multiply):
    scale = {scale}
"""


def line(steps: int) -> list[str]:
    return [part.format(steps=steps) for part in LONG]


def wait_for(what: "callable", seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def saved_step(run: Run) -> int:
    """The step of the state that an unfinished training has saved."""
    path = run.path / "training.safetensors"
    return read_metadata(path)["training_state"]["step"] if path.exists() else 0


def only_run(workspace: Workspace) -> Run | None:
    return next(workspace.runs(), None)


def test_second_training_of_the_same_run_is_refused_and_the_first_goes_on(scratch):
    command = [*line(40), "-w", scratch.root]
    first = start(*command, env=ONE_THREAD)
    wait_for(lambda: (run := only_run(scratch)) and (run.path / "metrics.jsonl").exists())
    second = call(*command)
    assert second.exit_code == 1
    [error] = errors_of(second)
    where = re.escape(f"{only_run(scratch).path}: process {first.pid} on {platform.node()} has been running this stage")
    assert re.fullmatch(
        where
        + r" since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(stmn train-stream .*\); wait until it ends \(--wait\), or end it",
        error,
    )
    assert first.wait(timeout=120) == 0
    run = only_run(scratch)
    rows = [json.loads(row)["step"] for row in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert run.done and rows == [10, 20, 30, 40]
    assert "up to date" in call(*command).stderr


@pytest.mark.slow
def test_lock_of_a_killed_training_is_gone_with_it(scratch):
    command = [*line(4000), "--checkpoint-minutes", "1e-9", "-w", scratch.root]
    first = start(*command, env=ONE_THREAD)
    wait_for(lambda: (run := only_run(scratch)) and saved_step(run))
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert only_run(scratch).record["status"] == "running"  # it had no time to say otherwise
    again = start(*command, env=ONE_THREAD)
    saved = (only_run(scratch).path / "training.safetensors").stat().st_mtime_ns
    wait_for(lambda: (only_run(scratch).path / "training.safetensors").stat().st_mtime_ns > saved)
    again.send_signal(signal.SIGINT)
    _, stderr = again.communicate(timeout=60)
    assert again.returncode == 130 and "continuing at step" in stderr


@pytest.mark.slow
def test_recipe_waits_for_a_stage_that_another_process_runs(scratch, tmp_path):
    stage = (
        'id = "motion"\nuses = "train-stream"\nmodality = "flow"\narch = "resnet18"\nwidth = 0.125\nweights = "none"\n'
    )
    recipe = tmp_path / "toy.toml"
    recipe.write_text(
        f'[recipe]\nname = "toy"\n[[stage]]\n{stage}size = 32\nbatch = 8\nmicro_batch = 8\nsteps = 40\n'
        f'schedule = "cosine"\nvalidation = 0.0\n'
    )
    first = start(*line(40), "-w", scratch.root, env=ONE_THREAD)
    wait_for(lambda: (run := only_run(scratch)) and (run.path / "metrics.jsonl").exists())
    first.send_signal(signal.SIGSTOP)  # so that it is certainly there
    second = start("run", recipe, "-w", scratch.root, env=ONE_THREAD)
    stderr = ""
    while "waiting for" not in stderr:
        stderr += second.stderr.readline()
    first.send_signal(signal.SIGCONT)
    stderr += second.communicate(timeout=120)[1]
    assert first.wait(timeout=10) == 0 and second.returncode == 0, stderr
    run = only_run(scratch)
    assert f"waiting for {run.path}: process {first.pid} on {platform.node()} has been running this stage" in stderr
    assert f"motion: made by the other process: {run.path}" in stderr
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 4


def test_package_version_is_no_part_of_a_run(scratch, monkeypatch):
    run = train_tiny(scratch, "rgb", steps=1)
    monkeypatch.setattr("stmn.recipe.execute.version", lambda package: "99.0")
    assert train_tiny(scratch, "rgb", steps=1).path == run.path
    assert [r.name for r in scratch.runs()] == [run.name]


def training(steps: int, workspace: Workspace, *more: str) -> list[object]:
    return [*line(steps), "-w", workspace.root, *more]


def test_unfinished_run_of_an_older_format_is_named(scratch, monkeypatch):
    monkeypatch.setattr(TrainStream, "format", TrainStream.format - 1)
    done, unfinished = training(1, scratch), training(2, scratch)
    for command in (done, unfinished):
        assert call(*command).exit_code == 0
    run = only_run(scratch)
    run.save(status="interrupted", stmn="0.0.9")
    (run.path / "training.safetensors").touch()
    monkeypatch.undo()

    again = call(*done)  # a finished one is simply made again, and that is said
    assert again.exit_code == 0
    assert re.search(
        r"train-stream: this is a new run, not motion-resnet18-\w+: this version of stmn gives different results",
        again.stderr,
    )
    refused = call(*unfinished)
    assert refused.exit_code == 1
    assert errors_of(refused) == [
        f"{run.path}: is unfinished, and stmn 0.0.9 trained it in another way than this version; finish it with that "
        f"version, or start over with --no-resume (in a recipe: resume = false)"
    ]
    assert call(*unfinished, "--no-resume").exit_code == 0
    assert read_run(run.path).record["status"] == "interrupted"


def test_changed_code_of_a_plugin_makes_a_new_run_and_that_is_said(own, tmp_path, monkeypatch):
    fuse = [
        "fuse",
        "--fusion",
        "gate",
        "--chunks",
        "2",
        "--stride-min",
        "1",
        "--stride-max",
        "2",
        "--batch",
        "8",
        "--micro-batch",
        "8",
        "--steps",
        "1",
        "--validation",
        "0",
    ]
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("my_gates", GATE.format(scale=1), fusion={"gate": "Gate"})
        command = [*fuse, "-w", own.root]
        assert call(*command).exit_code == 0
        first = only_run(own)
        assert call("evaluate", first.path, "-w", own.root).exit_code == 0
        assert "up to date" in call(*command).stderr
        (packages.folder / "my_gates.py").write_text(GATE.format(scale=2))
        again = call(*command)
        assert again.exit_code == 0
        assert (
            f"fuse: this is a new run, not {first.name}: the plugin fusion gate of my_gates: its code has changed"
            in again.stderr
        )
        assert only_run(own).name != first.name
        tested = call("evaluate", first.path, "-w", own.root)  # the same model with other code gives other scores
        assert "up to date" not in tested.stderr and "its code has changed" in tested.stderr
        assert "the code of fusion gate of my_gates has changed since the model was made" in tested.stderr


def test_other_starting_weights_than_before_are_said(scratch):
    run = train_tiny(scratch, "rgb", steps=1)
    given = {name: value for name, value in run.record["given"].items() if name != "weights"}
    options = run.record["options"] | {"weights": "imagenet"}
    run.save(options=options, given=given, fingerprint="that of a machine with weights")
    run.path.rename(run.path.with_name("appearance-resnet18-elsewhere"))
    command = "train-stream --arch resnet18 --width 0.25 --size 32 --batch 8 --micro-batch 8 --steps 1 --lr 0.05 --schedule cosine --validation 0 --seed 1"
    made = call(*command.split(), "-w", scratch.root)
    assert made.exit_code == 0
    assert (
        "this is a new run, not appearance-resnet18-elsewhere: that one started from weights imagenet, this one starts "
        "from none (weights = auto takes ImageNet's if they are on this machine)" in made.stderr
    )


@pytest.mark.parametrize("option", ["--lr", "--seed"])
def test_changed_option_is_a_new_run_without_a_word(scratch, option):
    assert call(*training(1, scratch)).exit_code == 0
    assert "this is a new run" not in call(*training(1, scratch, option, "1")).stderr
