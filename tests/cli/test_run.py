"""`stmn run` and what it prints."""

import pytest
from helpers.commands import call, errors_of, write_recipe

TINY = 'uses = "train-stream"\narch = "resnet18"\nwidth = 0.125\nsize = 32\nweights = "none"\nbatch = 4\nschedule = "cosine"\nvalidation = 0.0\nsteps = 1'  # fmt: skip


@pytest.mark.parametrize("command", [["run"], ["recipes", "validate"], ["nets", "show"], ["fuse", "--recipe"]])
def test_mistyped_recipe_names_the_file_beside_it(command, tmp_path, monkeypatch):
    write_recipe(tmp_path / "w.toml", 'name = "w"', f'id = "appearance"\n{TINY}')
    monkeypatch.chdir(tmp_path)
    mistyped = "w.tmol" if command[0] != "nets" else "ww.toml"
    result = call(*command, mistyped)
    assert result.exit_code == 2
    [line] = errors_of(result)
    assert line.startswith(f"{mistyped}: no such recipe (did you mean 'w.toml'?); known: ")


@pytest.mark.parametrize("command", [["run"], ["recipes", "validate"]])
def test_contradicting_strides_leave_no_folder(command, tmp_path, monkeypatch):
    write_recipe(tmp_path / "w.toml", 'name = "w"', f'id = "appearance"\n{TINY}\nstride_min = 8\nstride_max = 3')
    monkeypatch.chdir(tmp_path)
    result = call(*command, "w.toml")
    assert result.exit_code == 2
    assert errors_of(result) == [
        "w.toml: stage 1 ('appearance'): stride_min = 8 is above stride_max = 3: set both"
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["w.toml"]


def test_runs_are_printed_with_the_ids_of_their_stages(scratch, tmp_path):
    recipe = write_recipe(
        tmp_path / "w.toml", 'name = "w"\ndata = "synthetic"',
        f'id = "looks"\n{TINY}\nmodality = "rgb"',
        'id = "test-looks"\nuses = "evaluate"\nmodel = "looks"\nchunks = 2',
    )  # fmt: skip
    ran = call("run", recipe, "-w", scratch.root)
    assert ran.exit_code == 0, ran.stderr
    lines = [line.split() for line in ran.stdout.splitlines()]
    [model] = scratch.root.glob("runs/appearance-*/model.safetensors")
    [scores] = scratch.root.glob("runs/test-*/scores.safetensors")
    assert ["model", "looks", str(model)] in lines
    assert ["scores", "test-looks", str(scores)] in lines

    # also by the stage's own command, whether it reads the recipe or only finds what the recipe made
    alone = call("evaluate", "--recipe", recipe, "-w", scratch.root)
    assert f"scores (test-looks): {scores}" in alone.stdout.splitlines()
    assert f"test-looks: up to date: {scores.parent}" in alone.stderr.splitlines()
    found = call("evaluate", model.parent.name, "--chunks", "2", "-w", scratch.root)
    assert f"scores (test-looks): {scores}" in found.stdout.splitlines()


def test_stage_of_a_recipe_is_recorded_with_its_id(scratch, tmp_path):
    recipe = write_recipe(tmp_path / "w.toml", 'name = "w"', f'id = "looks"\n{TINY}\nmodality = "rgb"')
    made = call("train-stream", "--recipe", recipe, "-w", scratch.root)
    assert made.exit_code == 0, made.stderr
    assert [line.split()[:2] for line in made.stdout.splitlines()] == [["model", "(looks):"], ["metrics", "(looks):"]]


def test_each_list_of_test_videos_has_its_own_table(own, tmp_path):
    [model] = own.root.glob("runs/appearance-*/model.safetensors")
    recipe = write_recipe(
        tmp_path / "w.toml", 'name = "w"\ndata = "synthetic"',
        *(f'id = "{part}"\nuses = "evaluate"\nmodel = "{model}"\nchunks = 1\nallow_seen = true\npart = "{part}"'
          for part in ("test", "train")),
    )  # fmt: skip
    ran = call("run", recipe, "-w", own.root)
    assert ran.exit_code == 0, ran.stderr
    assert [line.strip() for line in ran.stdout.splitlines() if line.startswith("Accuracy on")] == [
        "Accuracy on 12 test videos",
        "Accuracy on 24 test videos",
    ]
