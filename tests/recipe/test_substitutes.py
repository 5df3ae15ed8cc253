"""`--recipe` on one command: which earlier runs it uses, and which it never uses."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from helpers.commands import call, errors_of, write_recipe

from stmn.runtime.json_files import read_record, write_record
from stmn.workspace import Workspace, read_run

STREAM = 'uses = "train-stream"\narch = "resnet18"\nwidth = 0.25\nsize = 32\nweights = "none"\nmodality = '
TINY = ["--steps", "1", "--batch", "2", "--micro-batch", "2", "--chunks", "1", "--validation", "0"]


@pytest.fixture
def work(trained: Workspace, tmp_path: Path) -> Workspace:
    """A workspace of the test's own with trained streams, their fusion, and the evaluation of each."""
    shutil.copytree(trained.root, tmp_path / "work")
    return Workspace(tmp_path / "work")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Its options are those of none of the runs."""
    return write_recipe(
        tmp_path / "toy.toml", 'name = "toy"',
        f'id = "appearance"\n{STREAM}"rgb"\nsteps = 1000',
        f'id = "motion"\n{STREAM}"flow"\nsteps = 1000',
        'id = "fused"\nuses = "fuse"\nappearance = "appearance"\nmotion = "motion"',
        'id = "test-appearance"\nuses = "evaluate"\nmodel = "appearance"\nchunks = 7',
        'id = "test-motion"\nuses = "evaluate"\nmodel = "motion"\nchunks = 7',
        'id = "late"\nuses = "evaluate"\nlate_fusion = ["test-appearance", "test-motion"]',
    )  # fmt: skip


def named(work: Workspace, beginning: str) -> str:
    [name] = [run.name for run in work.runs() if run.name.startswith(beginning)]
    return name


def test_substitutes_for_streams_are_announced(work, recipe):
    result = call("fuse", "--recipe", recipe, *TINY, "-w", work.root, "--json")
    assert result.exit_code == 0, result.stderr
    inputs = json.loads(result.stdout)["inputs"]
    fingerprints = {run.name: run.record["fingerprint"] for run in work.runs()}
    for stage, name in (("appearance", named(work, "appearance-")), ("motion", named(work, "motion-"))):
        assert inputs[stage] == [fingerprints[name]]
    result = call("fuse", "--recipe", recipe, *TINY, "-w", work.root)
    for stage in ("appearance", "motion"):
        name = named(work, f"{stage}-")
        assert f"{stage}: using {name}, which was made with other options than the recipe's" in result.stderr


def test_evaluation_is_substituted_only_for_the_same_model(work, recipe):
    """All three evaluations were made by the same command; the newest is of the fused network."""
    result = call("evaluate", "--recipe", recipe, "--stage", "late", "-w", work.root, "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    tested = {run.record["fingerprint"]: run.results["of"] for run in work.runs() if run.name.startswith("test-")}
    assert [tested[i] for i in record["inputs"]["late_fusion"]] == [
        [named(work, "appearance-")], [named(work, "motion-")],
    ]  # fmt: skip


def test_a_file_may_stand_beside_stages(work, recipe):
    scores = next(work.root.glob("runs/test-*/scores.safetensors"))
    mixed = write_recipe(
        recipe.with_name("mixed.toml"), 'name = "mixed"',
        f'id = "appearance"\n{STREAM}"rgb"\nsteps = 1000',
        'id = "test-appearance"\nuses = "evaluate"\nmodel = "appearance"',
        f'id = "late"\nuses = "evaluate"\nlate_fusion = ["test-appearance", "{scores}"]',
    )  # fmt: skip
    result = call("evaluate", "--recipe", mixed, "--stage", "late", "-w", work.root, "--json")
    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)["inputs"]["late_fusion"]) == 2


def missing(recipe: Path, work: Workspace, more: str = "", command: str = "") -> list[str]:
    command = command or f"run {recipe} --until appearance"
    return [
        f"{recipe}: its stage 'appearance' has not been run here; make it with: stmn {command}{more} --workspace "
        f"{work.root}"
    ]


def resplit(folder: Path) -> None:
    """Add a split "2" in which training and test videos change places."""
    header = read_record(folder / "dataset.json")
    one = header["splits"]["1"]
    header["splits"]["2"] = {"train": one["test"], "test": one["train"]}
    write_record(folder / "dataset.json", header)


def test_stream_of_another_split_is_no_substitute(work, recipe):
    """It has seen the videos that this split tests on."""
    resplit(work.root / "data" / "synthetic")
    result = call("fuse", "--recipe", recipe, "--split", "2", *TINY, "-w", work.root)
    assert result.exit_code == 1
    assert errors_of(result) == missing(
        recipe, work, command=f"train-stream --recipe {recipe} --stage appearance --split 2"
    )


def test_stream_of_another_data_set_is_no_substitute(work, recipe):
    shutil.copytree(work.root / "data" / "synthetic", work.root / "data" / "other")
    result = call("fuse", "--recipe", recipe, "--data", "other", *TINY, "-w", work.root)
    assert result.exit_code == 1
    assert errors_of(result) == missing(recipe, work, " --data other")


def test_stream_of_another_architecture_is_no_substitute(work, recipe):
    recipe.write_text(recipe.read_text().replace('"resnet18"', '"resnet34"', 1))
    result = call("fuse", "--recipe", recipe, *TINY, "-w", work.root)
    assert result.exit_code == 1
    assert errors_of(result) == missing(recipe, work)


def test_unfinished_run_is_no_substitute(work, recipe):
    read_run(work.runs_dir / named(work, "appearance-")).save(status="interrupted")
    result = call("fuse", "--recipe", recipe, *TINY, "-w", work.root)
    assert errors_of(result) == missing(recipe, work)


def test_newest_of_several_substitutes_is_used(work, recipe):
    name = named(work, "motion-")
    newer = work.runs_dir / "motion-resnet18-00000000"
    shutil.copytree(work.runs_dir / name, newer)
    read_run(newer).save(finished=time.time(), fingerprint="0" * 16)
    os.utime(work.runs_dir / name)  # by the record, not by the file's time
    result = call("fuse", "--recipe", recipe, *TINY, "-w", work.root)
    assert "motion: using motion-resnet18-00000000" in result.stderr


def test_flags_name_inputs_over_the_recipe(work, recipe):
    motion = work.runs_dir / named(work, "motion-") / "model.safetensors"
    result = call("fuse", "--recipe", recipe, "--motion", motion, *TINY, "-w", work.root)
    assert result.exit_code == 0, result.stderr
    assert "appearance: using" in result.stderr
    assert "motion: using" not in result.stderr


@pytest.mark.parametrize(("arguments", "line"), [
    (["evaluate"], "several evaluate stages: choose one with --stage: test-appearance, test-motion, late"),
    (["evaluate", "--stage", "lates"], "no evaluate stage 'lates' (did you mean 'late'?); it has test-appearance"),
    (["export"], "no export stage"),
    (["run-until"], "no stage 'fusd' (did you mean 'fused'?); it has appearance, motion, fused"),
])  # fmt: skip
def test_unknown_or_ambiguous_stage_is_refused(arguments, line, work, recipe):
    verb, *rest = arguments
    arguments = ["run", recipe, "--until", "fusd"] if verb == "run-until" else [verb, "--recipe", recipe, *rest]
    result = call(*arguments, "-w", work.root)
    assert result.exit_code == 2
    assert len(errors_of(result)) == 1
    assert errors_of(result)[0].startswith(f"{recipe}: {line}")


@pytest.mark.parametrize(("name", "words"), [
    ("motion-resnet81", "no such file, and no finished run with model in"),
    ("test-", "no such file, and no finished run with model in"),
])  # fmt: skip
def test_unknown_input_lists_the_known_ones(name, words, work):
    result = call("fuse", "--motion", name, *TINY, "-w", work.root)
    assert result.exit_code == 2
    [line] = errors_of(result)
    assert words in line
    assert named(work, "motion-") in line
