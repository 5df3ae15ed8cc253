"""`stmn run RECIPE`: what is up to date is skipped, what changed runs again, what was interrupted resumes."""

import json
import platform
import signal
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers.commands import STMN, call, errors_of, start, write_recipe

from stmn.workspace import Workspace

TINY = 'uses = "train-stream"\narch = "resnet18"\nwidth = 0.125\nsize = 32\nweights = "none"\nbatch = 4\nschedule = "cosine"\nvalidation = 0.0\n'


def toy(path: Path, motion_steps: int = 2, fusion: str = "multiply") -> Path:
    """Both streams and their fusion on the prepared synthetic set, in seconds."""
    return write_recipe(
        path, 'name = "toy"\ndata = "synthetic"\nseed = 3',
        f'id = "appearance"\n{TINY}modality = "rgb"\nsteps = 2',
        f'id = "motion"\n{TINY}modality = "flow"\nsteps = {motion_steps}',
        f'id = "fused"\nuses = "fuse"\nappearance = "appearance"\nmotion = "motion"\nfusion = "{fusion}"\nchunks = 2\nbatch = 4\nsteps = 2\nvalidation = 0.0',
        'id = "test-fused"\nuses = "evaluate"\nmodel = "fused"',
        'id = "test-late"\nuses = "evaluate"\nlate_fusion = ["appearance", "motion"]\nstream_weights = [1.0, 3.0]',
    )  # fmt: skip


def made(workspace: Workspace) -> dict[str, int]:
    """Every file under runs/ with its time of change."""
    return {str(p): p.stat().st_mtime_ns for p in workspace.runs_dir.rglob("*") if p.is_file()}


def test_recipe_runs_once_and_a_change_redoes_what_follows(scratch, tmp_path):
    recipe = toy(tmp_path / "toy.toml")
    first = call("run", recipe, "-w", scratch.root)
    assert first.exit_code == 0, first.stderr
    assert "chance" in first.stdout and "test-fused" in first.stdout and "test-late" in first.stdout
    before = made(scratch)

    again = call("run", recipe, "-w", scratch.root)
    assert again.exit_code == 0
    assert again.stderr.count("up to date") == 5
    assert made(scratch) == before

    toy(recipe, motion_steps=3)
    changed = call("run", recipe, "-w", scratch.root)
    assert changed.exit_code == 0, changed.stderr
    assert changed.stderr.count("up to date") == 1, "appearance does not follow from motion"
    assert before.items() <= made(scratch).items(), "earlier results are left as they are"

    # a single command finds the same work as well
    flags = [
        "--arch",
        "resnet18",
        "--width",
        "0.125",
        "--size",
        "32",
        "--weights",
        "none",
        "--batch",
        "4",
        "--schedule",
        "cosine",
    ]
    alone = call(
        "train-stream",
        "--modality",
        "rgb",
        *flags,
        "--validation",
        "0",
        "--steps",
        "2",
        "--seed",
        "3",
        "-w",
        scratch.root,
    )
    assert "up to date" in alone.stderr


def test_the_record_says_what_was_run_with_what(scratch, tmp_path):
    recipe = toy(tmp_path / "toy.toml")
    assert call("run", recipe, "-w", scratch.root, "--until", "fused").exit_code == 0
    records = {r.record["stage"]: r.record for r in scratch.runs()}
    assert set(records) == {"appearance", "motion", "fused"}
    fused = records["fused"]
    assert fused["recipe"] == "toy" and fused["status"] == "done" and fused["seconds"] > 0
    assert fused["inputs"] == {k: [records[k]["fingerprint"]] for k in ("appearance", "motion")}
    assert {"kind": "fusion", "name": "multiply", "package": "stmn"} in fused["plugins"]
    assert fused["format"] == 2 and fused["stmn"] == version("stmn") and fused["host"] == platform.node()


def test_fuse_reads_a_recipe_and_finds_its_streams(scratch, tmp_path):
    recipe = toy(tmp_path / "toy.toml")
    missing = call("fuse", "--recipe", recipe, "-w", scratch.root)
    assert missing.exit_code == 1
    assert errors_of(missing) == [
        f"{recipe}: its stage 'appearance' has not been run here; make it with: stmn run {recipe} --until appearance "
        f"--workspace {scratch.root}"
    ]
    assert call("run", recipe, "-w", scratch.root, "--until", "motion").exit_code == 0
    fused = call("fuse", "--recipe", recipe, "-w", scratch.root, "--fusion", "add", "--json")
    assert fused.exit_code == 0, fused.stderr
    record = json.loads(fused.stdout)
    assert record["options"]["fusion"] == "add", "flags win over the recipe"
    assert record["options"]["chunks"] == 2 and record["options"]["seed"] == 3
    assert "taking" not in fused.stderr

    toy(recipe, motion_steps=7)  # never run: the motion stream that is there stands in, and that is said
    other = call("fuse", "--recipe", recipe, "-w", scratch.root, "--fusion", "add")
    assert other.exit_code == 0, other.stderr
    assert "motion: using motion-resnet18-" in other.stderr


def test_the_three_lines_of_the_readme(scratch, monkeypatch):
    """As written, except for a step or two on small crops instead of days of training, three
    chunks per test, and batch statistics as trained."""
    monkeypatch.chdir(scratch.root)
    small = "size = 32\nsteps = 1\nbatch = 2\nmicro_batch = 2"
    Path("stmn.toml").write_text(f"[defaults.train-stream]\n{small}\n[defaults.evaluate]\nchunks = 3\n")
    assert call("train-stream", "--modality", "rgb", "--arch", "resnet50").exit_code == 0
    motion = call("train-stream", "--modality", "flow", "--arch", "resnet152")
    assert motion.exit_code == 0, motion.stderr
    fused = call(
        "fuse",
        "--recipe",
        "recipes/final.toml",
        "--steps",
        "1",
        "--batch",
        "2",
        "--micro-batch",
        "2",
        "--validation",
        "0",
        "--bn-passes",
        "0",
    )
    assert fused.exit_code == 0, fused.stderr
    evaluated = call("evaluate", "--fully-conv")
    assert evaluated.exit_code == 0, evaluated.stderr
    newest = Workspace(scratch.root).newest("model")
    assert newest is not None and newest.name.startswith("fused-multiply-")
    assert f"model: fused ({newest.name})" in evaluated.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["train-stream"], "no prepared data; make it with: stmn prepare"),
        (["fuse"], "no prepared data; make it with: stmn prepare"),
        (["evaluate"], "no prepared data; make it with: stmn prepare"),
        (["fuse-idt"], "no prepared data; make it with: stmn prepare"),
        (["export"], "no trained model in this workspace"),
        (["report"], "no prepared data"),
    ],
)
def test_missing_input_is_named_with_the_command_for_it(line, words, tmp_path):
    result = call(*line, "-w", tmp_path)
    assert result.exit_code == 1
    assert len(errors_of(result)) == 1 and words in errors_of(result)[0]
    assert list(tmp_path.iterdir()) == [], "nothing is left"


@pytest.mark.slow
def test_ctrl_c_keeps_finished_work_and_the_command_resumes(scratch, tmp_path):
    recipe = toy(tmp_path / "toy.toml", motion_steps=4000)
    process = start("run", recipe, "-w", scratch.root, "--until", "motion")
    for line in process.stderr:
        if "(train-stream)" in line and "motion" in line:
            break
    while not list(scratch.runs_dir.glob("motion-*/metrics.jsonl")):
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    last = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(last) == 1 and "interrupted at step" in last[0]
    (run,) = [r for r in scratch.runs() if r.name.startswith("motion-")]
    assert run.record["status"] == "interrupted"
    assert STMN.exists()

    process = start("run", recipe, "-w", scratch.root, "--until", "motion")
    for line in process.stderr:
        if "continuing at step" in line:
            break
    else:
        pytest.fail("did not continue")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_runs_are_named_by_the_ids_of_their_stages(scratch, tmp_path):
    recipe = toy(tmp_path / "toy.toml")
    ran = call("run", recipe, "-w", scratch.root)
    assert ran.exit_code == 0, ran.stderr
    [fused] = [run for run in scratch.runs() if run.record.get("stage") == "fused"]
    assert f"model: fused ({fused.name})" in ran.stderr
    compared = call("compare", "test-late", "test-fused", "-w", scratch.root, "--json")
    assert compared.exit_code == 0, compared.stderr
    names = [run["name"] for run in json.loads(compared.stdout)["runs"]]
    assert names == [
        run.name for id_ in ("test-late", "test-fused") for run in scratch.runs() if run.record["stage"] == id_
    ]
