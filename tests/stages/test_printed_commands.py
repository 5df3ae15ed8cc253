"""Commands that errors print do what they say as they are printed: on the same set, split and workspace."""

import re
import shlex
import shutil

import pytest
from helpers.commands import call, errors_of, write_recipe

from stmn.store.format.header import read_header
from stmn.workspace import Workspace

#: makes a training that takes a second
TINY = (
    "[defaults.{verb}]\nsteps = 1\nbatch = 4\nmicro_batch = 4\nschedule = 'cosine'\n"
    "arch = 'resnet18'\nwidth = 0.25\nweights = 'none'\nsize = 32\n"
)
FUSE = ["--steps", 1, "--batch", 4, "--validation", 0.3, "--validation-seed", 2]


@pytest.fixture
def two_sets(scratch: Workspace, tmp_path, monkeypatch) -> Workspace:
    """A workspace elsewhere, with two sets of two splits each; the current folder has settings for small trainings."""
    folder = scratch.data_dir("synthetic")
    header = read_header(folder)
    header.model_copy(update={"splits": header.splits | {"2": header.splits["1"]}}).write(folder)
    shutil.copytree(folder, scratch.data_dir("other set"), ignore=shutil.ignore_patterns("videos"))
    read_header(folder).model_copy(update={"name": "other set"}).write(scratch.data_dir("other set"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "stmn.toml").write_text(TINY.format(verb="train-stream"))
    return scratch


def follow(command: list[object], limit: int = 8) -> list[str]:
    """Run a command; while it is refused, run what the error prints and then the command again."""
    ran = []
    for _ in range(limit):
        result = call(*command)
        if result.exit_code == 0:
            return ran
        [line] = errors_of(result)
        printed = re.search(r"with: stmn (.*)$", line)
        assert printed, line
        ran.append(printed[1])
        inner = follow(shlex.split(printed[1]), limit - 1)
        ran += inner
    raise AssertionError(ran)


@pytest.mark.parametrize("verb", ["fuse", "evaluate", "fuse-idt", "report"])
def test_commands_of_errors_lead_to_what_was_asked_for(verb, two_sets):
    """From nothing but prepared data, each error's own command, and theirs, are enough."""
    more = {"evaluate": ["--chunks", 1], "fuse": FUSE, "fuse-idt": ["--features", "grid"]}.get(verb, [])
    asked = [verb, "--data", "other set", "--split", "2", "--workspace", two_sets.root, *more]
    ran = follow(asked)
    assert ran and all(f"--data 'other set' --split 2 --workspace {two_sets.root}" in line for line in ran)
    assert {run.record["data"]["name"] for run in two_sets.runs()} == {"other set"}
    assert {run.record["options"]["split"] for run in two_sets.runs()} == {"2"}


def test_export_names_a_training_in_its_workspace(tmp_path):
    [line] = errors_of(call("export", "-w", tmp_path))
    assert line.endswith(f"make one with: stmn train-stream --workspace {tmp_path}")


def test_missing_stage_of_a_recipe_is_made_where_it_was_asked_for(two_sets, tmp_path):
    recipe = write_recipe(
        tmp_path / "my recipe.toml", 'name = "r"', 'id = "rgb"\nuses = "train-stream"\nsteps = 1',
        'id = "test"\nuses = "evaluate"\nmodel = "rgb"\nchunks = 1',
    )  # fmt: skip
    asked = ["evaluate", "--recipe", recipe, "--data", "synthetic", "-w", two_sets.root]
    where = f"--data synthetic --workspace {two_sets.root}"
    assert follow(asked) == [f"run '{recipe}' --until rgb {where}"]
    assert follow([*asked, "--split", 2]) == [f"train-stream --recipe '{recipe}' --stage rgb --split 2 {where}"]


def test_only_what_is_needed_is_named(scratch, monkeypatch):
    monkeypatch.chdir(scratch.root)
    [line] = errors_of(call("fuse"))
    assert line.endswith("make it with: stmn train-stream --modality rgb")
    [line] = errors_of(call("evaluate", "--data", "my set"))
    assert line == "data/my set: no prepared data set; make it with: stmn prepare VIDEOS 'my set'"
    [line] = errors_of(call("evaluate", "--data", "elsewhere/my set"))
    assert line == "elsewhere/my set: no prepared data set"
