"""`stmn tune`: trials of a training with values drawn from a space, judged on validation videos, ranked and kept."""

import csv
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import train_tiny
from helpers.commands import call, errors_of, over, start

import stmn
from stmn.errors import UsageError
from stmn.recipe.tuning.study import Study, Trial
from stmn.runtime.tensor_files import read_metadata
from stmn.workspace import Workspace

TINY = shlex.split(
    "tune train-stream --modality flow --arch resnet18 --width 0.125 --weights none --size 32 --batch 8 --micro-batch 8 "
    "--steps 2 --schedule cosine --validation 0.25"
)


def rows_of(workspace: Workspace, name: str) -> list[dict[str, str]]:
    """The rows of a study's CSV file."""
    with open(workspace.root / "tune" / name / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_trials_are_runs_and_the_best_one_is_named_with_its_command(scratch):
    command = [*TINY, "--space", "lr=1e-3..1e-1", "--space", "dropout=0,0.5", "-w", scratch.root]
    done = call(*command, "--trials", 3, "--name", "rates")
    assert done.exit_code == 0, done.stderr
    rows = rows_of(scratch, "rates")
    assert [row["state"] for row in rows] == ["done"] * 3
    assert all(0.001 <= float(row["lr"]) <= 0.1 and float(row["dropout"]) in (0, 0.5) for row in rows)
    for row in rows:
        [run] = [run for run in scratch.runs() if run.name == row["run"]]
        assert run.record["tune"] == "rates" and run.record["options"]["lr"] == float(row["lr"])
        assert float(row["validation_accuracy"]) == pytest.approx(1 - run.results["validation_error"], abs=1e-6)

    best = max(rows, key=lambda row: float(row["validation_accuracy"]))
    assert f"The best is {best['run']}." in done.stdout and "3 trials: 3 done" in done.stdout
    assert "too good to be a result" in done.stdout and "No test video has been looked at." in done.stdout
    [printed] = re.findall(r"^  stmn (train-stream .*)$", done.stdout, re.MULTILINE)
    again = call(*shlex.split(printed))
    assert again.exit_code == 0 and "up to date" in again.stderr, "its run is there"
    assert best["run"] in again.stdout

    before = {path.name for path in scratch.runs_dir.iterdir()}
    repeated = call(*command, "--trials", 3, "--name", "rates")
    assert repeated.stdout == done.stdout and {path.name for path in scratch.runs_dir.iterdir()} == before


def test_a_study_that_goes_on_draws_what_an_undisturbed_one_draws(scratch):
    command = [*TINY, "--space", "lr=1e-3..1e-1", "-w", scratch.root]
    call(*command, "--trials", 1, "--name", "halves")
    on = call(*command, "--trials", 3, "--name", "halves")
    assert "has 1 trial already" in on.stderr
    call(*command, "--trials", 3, "--name", "whole")  # the trainings are those of the other study
    kept = [{key: row[key] for key in ("trial", "lr", "validation_accuracy")} for row in rows_of(scratch, "halves")]
    assert kept == [{key: row[key] for key in kept[0]} for row in rows_of(scratch, "whole")]
    [other] = errors_of(call(*command, "--name", "whole", "--dropout", 0.3))
    assert other.endswith(
        "tune/whole: is a study of something else (dropout): choose another name, or delete the folder"
    )


@pytest.mark.parametrize(("space", "message"), [
    ("lr", "space: lr: write KEY=LOW..HIGH or KEY=A,B,C"),
    ("lr=0.1", "space: lr: has one value, and nothing to choose from: give it as a flag"),
    ("lr=0.1..0.01", "space: lr: 0.1..0.01: LOW is above HIGH"),
    ("lr=0.1..0.1", "space: lr: 0.1..0.1: has one value, and nothing to choose from: give it as a flag"),
    ("lr=0.1,0.10", "space: lr: has 0.1 twice"),
    ("lr=a..0.1", "space: lr: 'a' must be a number: write LOW..HIGH"),
    ("lr=0.1,fast", "space: lr = 'fast': must be a number"),
    ("lr=0..0.1", "space: lr = 0.0: must be above 0"),
    ("lr=0..0.1:log", "space: lr: 0..0.1: a logarithmic scale needs a LOW above 0"),
    ("lr=0.01..0.1:lin", "space: lr: 0.01..0.1:lin: the scale is log or linear"),
    ("lr=0.1..inf", "space: lr: 0.1..inf: must be finite"),
    ("dropout=0..1", "space: dropout = 1.0: must be below 1"),
    ("bn-momentum=0.1,1.5", "space: bn_momentum = 1.5: must be below 1"),
    ("epochs=1.5..4", "space: epochs: 1.5 must be a whole number: write LOW..HIGH"),
    ("epochs=0..4", "space: epochs = 0: must be 1 or more"),
    ("balance=yes,perhaps", "space: balance = 'perhaps': must be true or false"),
    ("optimizer=sgd,adam", "space: optimizer = 'adam': must be 'sgd' or 'adamw' (did you mean 'adamw'?)"),
    ("optimizer=a..b", "space: optimizer: has no range: it is no number: list its values, optimizer=A,B"),
    ("lrr=0.1,0.2", "space: unknown option 'lrr' (did you mean 'lr'?)"),
    ("steps=1,2", "space: steps: is given as --steps too: give one of them"),
    ("milestones=1,2", "space: milestones: is a list or a table, and only options with a single value can be varied"),
    ("compile=true,false", "space: compile: decides how fast or where a training runs, not its result"),
    ("split=1,2", "space: split: decides which videos trials are judged on, and they must be the same in all trials"),
    ("keep=last,best", "space: keep: decides which validation counts, and best would look better than last in any case"),
    ("seed=1,2", "space: seed: the best seed is chance; a sweep in a recipe shows how much seeds differ"),
])  # fmt: skip
def test_mistakes_in_a_space_are_one_line_each(prepared, space, message):
    result = call(*TINY, "--space", space, "-w", prepared.root)
    assert (result.exit_code, result.stdout) == (2, "")
    assert errors_of(result) == [message]
    assert not (prepared.root / "tune").exists() and not prepared.runs_dir.exists()


def test_names_in_a_space_are_looked_for_before_the_first_trial(prepared):
    command = over(TINY, "--arch", "resnet18")
    without = [word for word in command if word not in ("--arch", "resnet18", "--weights", "none")]
    [line] = errors_of(call(*without, "--space", "arch=resnet18,resnet19", "-w", prepared.root))
    assert "resnet19" in line and "did you mean 'resnet18'?" in line
    [line] = errors_of(call(*without, "--arch", "resnet18", "--space", "weights=none,nowhere", "-w", prepared.root))
    assert "'nowhere': no such file, and no finished run with model" in line
    wrong = call(*TINY, "--space", "lr=1,0..2", "--space", "lrr=1,2", "-w", prepared.root)
    assert len(errors_of(wrong)) == 2, "all mistakes at once"
    [line] = errors_of(call(*TINY, "--space", "lr=0.1,0.2", "--name", "a/b", "-w", prepared.root))
    assert line == "name 'a/b': has a slash"
    assert not (prepared.root / "tune").exists()


def test_trials_are_judged_on_validation_videos_or_not_at_all(prepared, tmp_path):
    none = call(*over(TINY, "--validation", 0), "--space", "lr=0.1,0.2", "-w", prepared.root)
    assert none.exit_code == 2
    assert errors_of(none) == [
        "validation = 0: tune judges trials on validation videos alone, and this holds none out: leave it out, or give "
        "a share such as --validation 0.2"
    ]
    one_each = Workspace(tmp_path)  # a video per class, and one to test: training needs them all
    size = "train=4,test=4"
    made = call("prepare", "--dataset", "synthetic", "--dataset-options", size, "--short-side", 40, "-w", tmp_path)
    assert made.exit_code == 0, made.stderr
    result = call(*TINY, "--space", "lr=0.1,0.2", "-w", one_each.root)
    assert result.exit_code == 2
    assert errors_of(result) == [
        "tune judges trials on validation videos alone, and split 1 of synthetic can hold none out: a class would be "
        "left without training videos"
    ]
    assert not one_each.runs_dir.exists() and not (tmp_path / "tune").exists()


def test_without_optuna_one_line_says_how_to_get_it(prepared, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = call(*TINY, "--space", "lr=0.1,0.2", "-w", prepared.root)
    assert result.exit_code == 1
    assert errors_of(result) == ["tune needs the package 'optuna': pip install 'stmn[tune]'"]


def test_a_trial_that_fails_is_kept_with_its_reason_and_the_others_go_on(scratch):
    done = call(*TINY, "--space", "lr=1e30,0.05", "--space", "bn=train,frozen", "--name", "some", "-w", scratch.root)
    assert done.exit_code == 0, done.stderr
    assert "all 4 combinations have been tried" in done.stderr
    reasons = {(float(row["lr"]), row["bn"]): row["reason"] for row in rows_of(scratch, "some")}
    assert reasons[0.05, "train"] == ""
    assert "try a lower lr" in reasons[1e30, "train"]
    assert "random weights have none" in reasons[0.05, "frozen"], "options that don't fit each other"
    assert "4 trials: 1 done, 3 failed" in done.stdout


def test_the_first_three_failures_end_the_study(scratch):
    done = call(*TINY, "--space", "bn=frozen,partial", "--space", "lr=1..10", "--name", "none", "-w", scratch.root)
    assert (done.exit_code, done.stdout) == (2, ""), "no combination can be trained"
    lost = call(*TINY, "--space", "lr=1e30..1e35", "--name", "lost", "-w", scratch.root)
    assert (lost.exit_code, lost.stdout) == (1, "")
    [line] = errors_of(lost)
    assert "tune/lost: 3 trials failed and none is done; the last failed because" in line and "a lower lr" in line
    assert [row["state"] for row in rows_of(scratch, "lost")] == ["failed"] * 3


def test_early_stops_spare_trials_that_do_worse_than_most(scratch):
    command = [*over(TINY, "--steps", 12), "--space", "lr=1e-3..1e-1", "--name", "short", "-w", scratch.root]
    assert call(*command, "--trials", 1).exit_code == 0
    path = scratch.root / "tune/short"
    study = Study(path, json.loads((path / "study.json").read_text())["asked"])
    study.load()
    [first] = study.trials
    assert sorted(first.course) == [10, 12], "each validation is kept"
    for number in range(2, 7):  # as if five trainings had been faultless from the beginning
        study.put(Trial(number=number, values={"lr": 0.01 * number}, state="done", accuracy=1.0, course={10: 1.0}))
    done = call(*command, "--trials", 7, "--prune")
    assert done.exit_code == 0, done.stderr
    last = rows_of(scratch, "short")[-1]
    assert (last["state"], last["validation_accuracy"]) == ("stopped", "")
    assert last["reason"] == "stopped by tune after step 10: worse than most trials at that step"
    assert "7 trials: 6 done, 1 stopped early" in done.stdout


def test_json_has_a_line_for_each_trial_and_one_for_the_study(scratch):
    done = call(*TINY, "--space", "balance=true,false", "--json", "-w", scratch.root)
    *trials, study = map(json.loads, done.stdout.splitlines())
    assert [trial["number"] for trial in trials] == [1, 2]
    assert study["best"] in trials and study["validation_videos"] == 6
    flag = "--balance" if study["best"]["values"]["balance"] else "--no-balance"
    assert flag in study["command"].split()


def test_from_python_streams_are_named_once_for_all_trials(scratch):
    tiny = {"steps": 2, "batch": 8, "micro_batch": 8, "schedule": "cosine", "validation": 0.25}
    streams = {
        name: train_tiny(scratch, modality, **tiny)
        for name, modality in {"appearance": "rgb", "motion": "flow"}.items()
    }
    found = stmn.tune(
        "fuse", {"fusion": ["add", "multiply"], "lr": (0.01, 0.02)}, trials=2, name="gates", workspace=scratch.root,
        show=False, chunks=2, stride_min=1, stride_max=2, **tiny,
    )  # fmt: skip
    assert len(found.trials) == 2 and found.best is found.ranking[0] and found.held_out == 6
    assert found.best.values["fusion"] in ("add", "multiply") and 0.01 <= found.best.values["lr"] <= 0.02
    assert found.model.name == found.best.run and found.model.file.exists()
    for name, run in streams.items():
        assert f"--{name} {run.name}" in found.command
    assert found.path == scratch.root / "tune/gates"
    for space, words in (
        ({}, "nothing to vary"), ({"lr": (0.1, 0.01)}, "LOW is above HIGH"), ({"lr": 0.1}, "write KEY=LOW..HIGH"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            stmn.tune("fuse", space, workspace=scratch.root, show=False)
    with pytest.raises(UsageError, match="'evaluate' can't be tuned; known: train-stream, fuse"):
        stmn.tune("evaluate", {"chunks": [1, 2]}, workspace=scratch.root, show=False)


LONG = [*over(TINY, "--steps", 40), "--checkpoint-minutes", "1e-9", "--space", "lr=1e-3..1e-1", "--trials", "2"]


def stopped(workspace: Workspace, name: int) -> tuple[subprocess.CompletedProcess, Trial]:
    """The command, which got a signal in its first trial once that had saved its state; and the trial."""
    process = start(*LONG, "--name", "s", "-w", workspace.root, env={"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(
        read_metadata(path)["training_state"]["step"] > 1 for path in workspace.runs_dir.glob("*/training.safetensors")
    ):
        time.sleep(0.01)
    process.send_signal(name)
    _, stderr = process.communicate(timeout=60)
    record = json.loads((workspace.root / "tune/s/study.json").read_text())
    return subprocess.CompletedProcess([], process.returncode, "", stderr), Trial(**record["trials"][-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", [signal.SIGKILL, signal.SIGINT], ids=lambda name: name.name)
def test_an_interrupted_trial_goes_on_and_ends_as_if_undisturbed(scratch, name, tmp_path):
    whole = Workspace(Path(shutil.copytree(scratch.root, tmp_path / "whole")))
    ended, trial = stopped(scratch, name)
    assert trial.state == "running" and (scratch.runs_dir / trial.run).is_dir()
    if name == signal.SIGINT:
        assert ended.returncode == 130
        assert errors_of(ended) == ["interrupted in trial 1/2; run the same command to resume it"]
    again = call(*LONG, "--name", "s", "-w", scratch.root)
    assert again.exit_code == 0 and "continuing at step" in again.stderr, again.stderr
    assert call(*LONG, "--name", "s", "-w", whole.root).exit_code == 0
    one, other = ([{**row, "seconds": ""} for row in rows_of(place, "s")] for place in (scratch, whole))
    assert one == other and len(one) == 2
