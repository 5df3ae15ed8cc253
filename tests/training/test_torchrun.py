"""Several processes under torchrun train the same network that a single process would have trained."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from helpers.commands import call, errors_of, listen, over, write_recipe
from safetensors.torch import load_file
from torch import Tensor

from stmn.runtime.tensor_files import read_metadata
from stmn.training.state import STATE_FILE
from stmn.workspace import Workspace, read_run

TORCHRUN = Path(sys.executable).with_name("torchrun")
#: 4 micro-batches per step, with enough chunks x pixels x videos for well-conditioned batch statistics
SMALL = shlex.split(
    "--chunks 4 --stride-min 1 --stride-max 1 --batch 8 --micro-batch 2 --lr 0.002 --schedule cosine --seed 1"
)
STREAM = [
    *shlex.split(
        "train-stream --modality flow --arch resnet18 --width 0.125 --weights none --size 40 --dropout 0.3 --steps "
        "3 --validation 0.3"
    ),
    *SMALL,
]


def torchrun(processes: int, *arguments: object) -> list[str]:
    """The command that starts `stmn` as so many processes."""
    return [str(TORCHRUN), f"--nproc-per-node={processes}", "-m", "stmn", *map(str, arguments)]


def run(*command: str) -> subprocess.CompletedProcess:
    """Run a command until it ends."""
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment())


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


@pytest.fixture
def background() -> Iterator[list[subprocess.Popen]]:
    """Processes that a test starts; they are killed at its end."""
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        for child in [*children(process), process]:
            if child.poll() is None if isinstance(child, subprocess.Popen) else child.is_running():
                child.kill()


def children(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes of a torchrun, rank 0 first."""
    try:
        found = [p for p in psutil.Process(process.pid).children() if "stmn" in p.cmdline()]
        return sorted(found, key=lambda p: int(p.environ()["RANK"]))
    except psutil.Error:
        return []


def start(background: list[subprocess.Popen], *command: str) -> subprocess.Popen:
    """Start a command in a process group of its own, as a terminal does."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=listen,
        env=environment(),
    )  # fmt: skip
    background.append(process)
    return process


def until_saved(process: subprocess.Popen, workspace: Workspace, step: int) -> Path:
    """Wait until a state of `step` or later is saved; return the run's folder."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for path in workspace.runs_dir.glob(f"*/{STATE_FILE}"):
            if read_metadata(path)["training_state"]["step"] >= step:
                return path.parent
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"no state of step {step} was saved: {process.communicate()}")


def copied(workspace: Workspace, name: str) -> Workspace:
    """A copy of a workspace."""
    root = workspace.root.parent / name
    shutil.copytree(workspace.root, root)
    return Workspace(root)


def model_of(workspace: Workspace, label: str) -> dict[str, Tensor]:
    """The weights and running statistics of the only finished run with this label."""
    (found,) = [run for run in workspace.runs() if run.done and run.name.startswith(label)]
    return load_file(found.output("model"))


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Check that weights and statistics are the same up to the order of sums."""
    assert one.keys() == other.keys()
    assert any("running_var" in name for name in one)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=2e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_two_processes_train_the_network_of_one(scratch):
    other = copied(scratch, "two")
    alone = call(*STREAM, "--workspace", scratch.root)
    assert alone.exit_code == 0
    done = run(*torchrun(2, *STREAM, "--workspace", other.root))
    assert done.returncode == 0, done.stderr
    close(model_of(scratch, "motion"), model_of(other, "motion"))
    # only one of them writes and prints
    assert done.stdout.count("model: ") == 1
    assert done.stderr.count("starting from random weights") == 1
    (one,), (two,) = (list(w.runs()) for w in (scratch, other))
    assert one.name == two.name and two.record["status"] == "done"
    rows = [[json.loads(line) for line in (r.path / "metrics.jsonl").read_text().splitlines()] for r in (one, two)]
    assert [row["step"] for row in rows[1]] == [3]
    for name in ("loss", "accuracy", "gradient_norm", "epoch"):
        assert rows[1][0][name] == pytest.approx(rows[0][0][name], rel=1e-3)
    # a run of two processes is up to date for one
    assert "up to date" in call(*STREAM, "--workspace", other.root).stderr


@pytest.mark.slow
def test_groups_of_two_processes_are_micro_batches_of_one(scratch):
    """Four groups of a step, two in each process's micro-batch; running statistics are merged group by group."""
    other, options = copied(scratch, "two"), ["--bn-passes", 0, "--bn-momentum", 0.5]
    assert call(*over(STREAM, *options, "--workspace", scratch.root)).exit_code == 0
    grouped = over(STREAM, *options, "--micro-batch", 4, "--bn-group", 2, "--workspace", other.root)
    done = run(*torchrun(2, *grouped))
    assert done.returncode == 0, done.stderr
    close(model_of(scratch, "motion"), model_of(other, "motion"))


@pytest.mark.slow
def test_options_of_optimisation_mean_the_same_to_two_processes(scratch):
    """The gradient that is clipped, the average, the best validation and the weighted loss are those of all processes."""
    options = shlex.split(
        "--clip 0.5 --ema 0.5 --keep best --class-weights --label-smoothing 0.1 --lr-new 2 --lr-bias 2"
    )
    other = copied(scratch, "two")
    alone = call(*over(STREAM, *options, "--workspace", scratch.root))
    assert alone.exit_code == 0, alone.stderr
    done = run(*torchrun(2, *over(STREAM, *options, "--workspace", other.root)))
    assert done.returncode == 0, done.stderr
    close(model_of(scratch, "motion"), model_of(other, "motion"))
    assert done.stderr.count("to train the same way on all") == 1


@pytest.mark.slow
def test_uneven_shares_work_and_empty_shares_are_refused(scratch):
    other = copied(scratch, "three")
    assert call(*STREAM, "--workspace", scratch.root).exit_code == 0
    done = run(*torchrun(3, *STREAM, "--workspace", other.root))
    assert done.returncode == 0, done.stderr
    close(model_of(scratch, "motion"), model_of(other, "motion"))

    refused = run(*torchrun(5, *over(STREAM, "--steps", 2, "--workspace", other.root)))
    assert refused.returncode != 0
    (line,) = errors_of(refused)
    assert line == (
        "a step has 4 micro-batches (batch = 8, micro_batch = 2) for 5 processes: set micro_batch = 1 or less, or use 4 "
        "processes"
    )


@pytest.mark.slow
def test_recipe_with_a_fused_network_runs_under_torchrun(own, tmp_path):
    """Streams and fused network are trained by all; stages that can't be shared run once."""
    small = "chunks = 4\nstride_min = 1\nstride_max = 1\nbatch = 8\nmicro_batch = 2\nlr = 0.001\nschedule = 'steps'\nsteps = 2\nvalidation = 0.0"
    recipe = write_recipe(
        tmp_path / "r.toml", 'name = "r"\ndata = "synthetic"\nseed = 1',
        f'id = "m"\nuses = "train-stream"\nmodality = "flow"\narch = "resnet18"\nwidth = 0.25\nweights = "none"\nsize = 32\n{small}',
        f'id = "f"\nuses = "fuse"\nappearance = "{own.find_input("appearance", "model").path}"\nmotion = "m"\n{small}',
        'id = "e"\nuses = "evaluate"\nmodel = "f"\nchunks = 2',
    )  # fmt: skip
    shutil.copytree(own.root / "data", tmp_path / "one" / "data")
    shutil.copytree(own.root / "data", tmp_path / "two" / "data")
    one, two = Workspace(tmp_path / "one"), Workspace(tmp_path / "two")
    alone = call("run", recipe, "--workspace", one.root)
    assert alone.exit_code == 0, alone.stderr
    done = run(*torchrun(2, "run", recipe, "--workspace", two.root))
    assert done.returncode == 0, done.stderr
    for label in ("motion", "fused"):
        close(model_of(one, label), model_of(two, label))
    assert done.stdout.count("Accuracy on 12 test videos") == 1
    assert sorted(run.name.split("-")[0] for run in two.runs()) == sorted(run.name.split("-")[0] for run in one.runs())


LONG = over(STREAM, "--steps", "2000", "--validation", "0", "--checkpoint-minutes", "1e-9")


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_process_that_dies_ends_all_with_one_line(scratch, background, killed):
    process = start(background, *torchrun(2, *LONG, "--workspace", scratch.root))
    folder = until_saved(process, scratch, 2)
    children(process)[killed].kill()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert lines == [
        "error: another of the 2 processes has ended, so this one can't continue; what came after the last saved state "
        "is lost; rerun the command to continue from there"
    ]
    assert read_metadata(folder / STATE_FILE)["training_state"]["step"] >= 2  # it is whole


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_once_and_one_process_resumes(scratch, background, number):
    steps = 40
    command = over(STREAM, "--steps", steps, "--validation", 0, "--checkpoint-minutes", "1e-9")
    process = start(background, *torchrun(2, *command, "--workspace", scratch.root))
    folder = until_saved(process, scratch, 2)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # Ctrl-C in a terminal reaches all
    else:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    step = read_metadata(folder / STATE_FILE)["training_state"]["step"]
    assert line == f"error: interrupted at step {step} of {steps}; rerun the command to continue"
    assert read_run(folder).record["status"] == "interrupted"
    # one process resumes where two stopped
    again = call(*command, "--workspace", scratch.root)
    assert again.exit_code == 0 and f"continuing at step {step} of {steps}" in again.stderr
    assert read_run(folder).record["results"]["steps"] == steps


def test_error_of_all_processes_is_printed_once(scratch):
    done = run(*torchrun(2, *STREAM, "--data", "nowhere", "--workspace", scratch.root))
    assert done.returncode != 0
    (line,) = errors_of(done)
    assert "nowhere: no prepared data set" in line


@pytest.mark.slow
def test_work_that_is_not_shared_is_done_by_one_process(scratch):
    done = run(*torchrun(2, "data", "info", "synthetic", "--workspace", scratch.root))
    assert done.returncode == 0
    assert done.stdout == call("data", "info", "synthetic", "--workspace", scratch.root).stdout
    assert done.stderr.count("torchrun: data can't be shared; one process runs it") == 1
